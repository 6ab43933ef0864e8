"""A rank's end of the watch: what it tells the guard that stands beside it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap
from pathlib import Path
from struct import pack_into
from typing import Any, NoReturn

from sillar.errors import SillarError

GUARD = Path(__file__).with_name("guard.py")


class Watch:
    """A guard for this rank, a process of its own, while `over` lasts.

    The guards know of each other. Where one sees its rank raise, die or stand still, it
    says so once for all, and all ranks end. `waiting` is told to the guard through a
    page of memory, which costs no call of the system.
    """

    def __init__(self, comm: Any) -> None:
        self.comm, self.timeout = comm, 0.0
        self.guard: subprocess.Popen[str] | None = None
        self.page: Any = bytearray(16)
        self.meetings = 0  # how many collective calls were begun

    def set(self, timeout: float) -> None:
        """Let others wait so many seconds for one, and no longer."""
        self.timeout = timeout
        if self.guard is not None:
            self._tell("timeout", timeout)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Note that this rank waits for others, and since when."""
        self.meetings += 1
        pack_into("=qd", self.page, 0, self.meetings, time.monotonic())
        try:
            yield
        finally:
            pack_into("=qd", self.page, 0, self.meetings, 0.0)

    @contextmanager
    def over(self) -> Iterator[None]:
        """Watch over this rank; an exception in it ends all of them."""
        if self.guard is not None or self.comm.Get_size() == 1:
            yield
            return
        self._begin()
        try:
            yield
        except BaseException as fault:
            self._report(fault)
        self._tell("bye")
        self._close()

    def _begin(self) -> None:
        """Start the guard; the first rank's tells the others where to find it."""
        names = self.comm.allgather(os.uname().nodename)
        token = self.comm.bcast(secrets.token_hex(16))
        file, path = tempfile.mkstemp()
        os.ftruncate(file, 16)
        self.page = mmap(file, 16)
        command = [sys.executable, "-I", "-S", str(GUARD)]
        self.guard = subprocess.Popen(  # a session of its own: who ends us spares it
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            pass_fds=_held(),
        )
        rank = self.comm.Get_rank()
        about = {
            **{"rank": rank, "ranks": len(names), "pid": os.getpid(), "page": path},
            **{"timeout": self.timeout, "token": token, "host": names[rank]},
        }
        near = len(set(names)) == 1
        if rank == 0:
            self._send(about | {"listen": "127.0.0.1" if near else ""})
            port = self._answer()
        address = ["127.0.0.1" if near else names[0], port if rank == 0 else 0]
        address = self.comm.bcast(address)
        if rank:
            self._send(about | {"address": address})
            self._answer()
        os.close(file)
        os.unlink(path)
        self.comm.Barrier()

    def _send(self, message: dict[str, Any]) -> None:
        assert self.guard is not None
        assert self.guard.stdin is not None
        self.guard.stdin.write(json.dumps(message) + "\n")
        self.guard.stdin.flush()

    def _answer(self) -> int:
        assert self.guard is not None
        assert self.guard.stdout is not None
        return int(self.guard.stdout.readline() or 0)

    def _tell(self, what: str, why: Any = "") -> None:
        with contextlib.suppress(OSError):  # the guard has ended: nobody listens
            self._send({"say": what, "why": why})

    def _report(self, fault: BaseException) -> NoReturn:
        """Tell why this rank fails, and wait until that is said and all are ended."""
        why = f"{type(fault).__name__}: {fault}"
        if not isinstance(fault, SillarError | KeyboardInterrupt):
            why = "".join(traceback.format_exception(fault)).rstrip()
        self._tell("raised", why)
        assert self.guard is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.guard.wait(self.timeout)
        sys.stdout.flush()
        sys.stderr.flush()
        self.comm.Abort(1)
        os._exit(1)  # all is said; nothing above may say it again

    def _close(self) -> None:
        assert self.guard is not None
        for end in (self.guard.stdin, self.guard.stdout):
            if end is not None:
                end.close()
        self.guard = None


def _held() -> tuple[int, ...]:
    """Return the file by which MPICH's launcher knows that a rank lives.

    While the guard holds it too, the launcher does not end the other ranks for the
    death of one, and there is time to find out which was the first.
    """
    number = os.environ.get("PMI_FD", "")
    return (int(number),) if number.isdigit() else ()
