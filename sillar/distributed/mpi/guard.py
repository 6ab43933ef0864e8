"""A guard stands beside each rank and outlives it: it says what went wrong, once.

A program of its own, in the standard library alone: `mpiexec` ends all ranks within
milliseconds once one is dead, and whoever hangs cannot say so. The first rank's guard
hears the others over TCP, decides, speaks, and has all ranks ended.
"""

import contextlib
import hmac
import json
import mmap
import os
import select
import signal
import socket
import struct
import time

PULSE = 0.25  # seconds between looks at the page
GRACE = 3.0  # seconds that MPI's abort may take
PARTING = 15.0  # seconds in which all others hear the verdict, on a busy machine
PAUSE = 0.4  # seconds in which reports of deaths may still come
LONGEST = 100_000  # bytes of a line


class Line:
    """Lines of JSON over a pipe or a socket, with bounds."""

    def __init__(self, file):
        self.file, self.left, self.known, self.rank = file, b"", False, None

    def fileno(self):
        return self.file if isinstance(self.file, int) else self.file.fileno()

    def read(self):
        """Return the messages that have come; None at the end."""
        try:
            data = os.read(self.fileno(), 65536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data or len(self.left) > LONGEST:
            return None
        *lines, self.left = (self.left + data).split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            return None
        return messages if all(isinstance(m, dict) for m in messages) else None

    def send(self, message):
        with contextlib.suppress(OSError):
            self.file.sendall(json.dumps(message).encode() + b"\n")


class Guard:
    """What one guard knows: its rank and, with the first, all ranks."""

    def __init__(self, about, pipe):
        self.__dict__.update(about)
        self.pipe, self.others, self.server, self.first = pipe, [], None, None
        with open(self.page, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 16)
        try:
            self.process = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            self.process = None
        self.seen = {}  # rank -> meetings, seconds of waiting, host
        self.left, self.reports, self.due = set(), [], None
        self.done = self.raised = False
        self.last = None  # until when the rank may end by itself

    def connect(self):
        """Listen if this is the first rank's, or find that one."""
        if self.rank == 0:
            self.server = socket.create_server((self.listen, 0), backlog=self.ranks)
            return self.server.getsockname()[1]
        try:
            self.first = Line(socket.create_connection(self.address, timeout=10))
        except OSError as error:
            say(f"sillar: rank {self.rank} cannot reach the watch of rank 0: {error}")
            return 0
        hello = {"token": self.token, "rank": self.rank, "host": self.host}
        self.first.send(hello)
        return 1

    def run(self):
        """Look and listen until the rank has left or all are ended."""
        while not self.done:
            watched = [self.pipe, self.server, self.first, self.process, *self.others]
            for source in ready(watched):
                self.hear(source)
            if self.last is None:
                self.look()
            elif time.monotonic() > self.last or self.process is None:
                self.kill()

    def hear(self, source):
        if source is self.server:
            client = self.server.accept()[0]
            client.settimeout(5)
            if len(self.others) < 2 * self.ranks:
                self.others.append(Line(client))
            else:
                client.close()
        elif source == self.process and source is not None:
            self.process = None
            if self.last is None and self.rank not in self.left:
                self.report("died", death(self.pid))
        elif source is self.pipe:
            self.from_rank(source.read())
        elif source is self.first:
            self.from_first(source.read())
        else:
            self.from_other(source, source.read())

    def from_rank(self, messages):
        if messages is None:  # the rank has ended; its process is watched as well
            self.pipe = None
            told = self.due is not None or self.rank in self.left
            if self.process is None and not told:
                self.report("died", "it ended without a word")
        for message in messages or ():
            if message["say"] == "timeout":
                self.timeout = message["why"]
            else:
                self.raised = message["say"] == "raised"
                self.report(message["say"], message["why"])

    def report(self, what, why):
        """Pass on what happened to this rank."""
        news = {"what": what, "why": why, "at": time.monotonic(), "pid": self.pid}
        if self.first is not None:
            self.first.send(news)
            self.done = what == "bye"
        elif self.rank == 0:
            self.judge(0, self.host, news)
        else:
            self.done = True

    def from_first(self, messages):
        if messages is None and self.last is None:
            if self.rank == 1:
                say("sillar: rank 0 is gone, and its watch: the run ends")
            self.end()
        if messages is None:
            self.first = None
        for message in messages or ():
            if "verdict" in message:
                self.end(message["verdict"])

    def from_other(self, line, messages):
        if messages is None:
            self.others.remove(line)
            if line.known and line.rank not in self.left and not self.reports:
                news = {"what": "died", "why": "its machine cannot be reached"}
                host = self.seen[line.rank][2]
                self.judge(line.rank, host, news | {"at": time.monotonic(), "pid": 0})
        for message in messages or ():
            if not line.known:
                token = str(message.get("token")).encode(errors="replace")
                if not hmac.compare_digest(token, self.token.encode()):
                    self.others.remove(line)
                    line.file.close()
                    return
                line.known, line.rank = True, message["rank"]
                self.seen[line.rank] = [0, 0.0, message["host"]]
            elif "beat" in message:
                self.seen[line.rank][:2] = message["beat"]
            else:
                self.judge(line.rank, self.seen[line.rank][2], message)

    def judge(self, rank, host, news):
        """Note a rank's end; the first that was not in order is the cause."""
        if news["what"] == "bye":
            self.left.add(rank)
            self.done = len(self.left) == self.ranks
            return
        order = news["what"] != "raised", "SIGKILL" in news["why"], news["at"]
        self.reports.append((order, rank, host, news))
        self.due = self.due or time.monotonic() + PAUSE

    def look(self):
        """Read the page; judge who is late, and speak when it is time."""
        meetings, since = struct.unpack_from("=qd", self.memory)
        waited = time.monotonic() - since if since else 0.0
        if self.first is not None:
            self.first.send({"beat": [meetings, waited]})
            return
        if self.rank:
            return
        self.seen[0] = [meetings, waited, self.host]
        if self.due is None:
            self.look_for_late()
        elif time.monotonic() > self.due:
            self.speak()

    def look_for_late(self):
        here = {r: s for r, s in self.seen.items() if r not in self.left}
        longest = max((waited for _, waited, _ in here.values()), default=0.0)
        if longest <= self.timeout:
            return
        at = max(meetings for meetings, _, _ in here.values())
        late = [r for r, (m, waited, _) in here.items() if not waited or m < at]
        for rank in late or sorted(here)[:1]:
            why = (
                f"the others have waited for it for {longest:.0f} s: it hangs, or is"
                f" slower than timeout={self.timeout:g} allows"
            )
            if not late:
                why = f"all ranks wait for each other for {longest:.0f} s: look at MPI"
            news = {"what": "late", "why": why, "at": time.monotonic(), "pid": 0}
            self.judge(rank, here[rank][2], news)

    def speak(self):
        """Say what happened first, in one message, and end all."""
        _, rank, host, news = min(self.reports, key=lambda report: report[0])
        pid = f", pid {news['pid']}" if news["pid"] else ""
        kinds = {"raised": "raised", "died": "died", "late": "keeps others waiting"}
        say(
            f"sillar: rank {rank} of {self.ranks} ({host}{pid}) {kinds[news['what']]}:"
            f" {news['why']}\nThe run ends on all ranks; its last checkpoint stands."
        )
        for line in self.others:
            line.send({"verdict": news["what"]})
        self.end(news["what"])
        self.part()

    def part(self):
        """Wait until the others have heard: who closes early takes back his words."""
        until = time.monotonic() + PARTING
        hearing = [line for line in self.others if line.known]
        while hearing and time.monotonic() < until:
            for line in ready(hearing):
                if line.read() is None:
                    hearing.remove(line)

    def end(self, verdict="died"):
        """End the rank; where one has raised, MPI's own abort may come first."""
        if self.raised:
            self.done = True  # the rank has waited for this, and aborts
        elif verdict == "raised":
            self.last = time.monotonic() + GRACE
        else:
            self.kill()

    def kill(self):
        self.done = True
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def ready(sources):
    """Return those of the sources, files or None, that have something to read."""
    poll, known = select.poll(), {}
    for source in sources:
        if source is not None:
            number = source if isinstance(source, int) else source.fileno()
            known[number] = source
            poll.register(number, select.POLLIN)
    return [known[number] for number, _ in poll.poll(PULSE * 1000)]


def death(pid):
    """Return how a process that has just died came to its end, as far as is known."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            code = int(file.read().rsplit(")", 1)[1].split()[-1])
    except (OSError, ValueError):  # somebody was faster and has taken note of it
        return "a signal such as SIGKILL ended it, or it left in the middle of the run"
    if code & 127:
        name = signal.Signals(code & 127).name
        more = ": by hand, or for want of memory" if name == "SIGKILL" else ""
        return f"it was ended by the signal {name}{more}"
    return f"it left with exit code {code >> 8} in the middle of the run"


def say(text):
    """Print on standard error, if anybody still reads it."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode("utf-8", "replace") + b"\n")


def main():
    """Stand guard, as the first line on standard input says."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pipe = Line(0)
    messages = []
    while not messages:
        messages = pipe.read()
        if messages is None:
            return
    guard = Guard(messages[0], pipe)
    os.write(1, f"{guard.connect()}\n".encode())
    for message in messages[1:]:
        guard.from_rank([message])
    guard.run()


if __name__ == "__main__":
    main()
