"""Client: lines sent over TCP until they are scored, through any fault."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

from sillar.errors import DataError
from sillar.streams.server import HELLO

BATCH = 2_000  # lines sent at once


def send_lines(
    address: tuple[str, int],
    name: str,
    lines: Sequence[bytes],
    *,
    patience: float = 60.0,
    ahead: int = 200_000,
) -> None:
    """Send lines to a `follow` that listens; return once all are scored and kept.

    `name` stands for this sequence of lines: who sends the same again goes on where the
    server stands. A connection that breaks is made again for `patience` seconds, and
    what was not acknowledged is sent again. At most `ahead` lines are on their way.
    """
    if any(b"\n" in line for line in lines):
        raise DataError("send_lines: a line with a line end in it: split it first")
    until = time.monotonic() + patience
    while True:
        try:
            with socket.create_connection(address, timeout=patience) as connection:
                done = _Sending(connection, name, lines, ahead).run()
        except OSError as error:
            done, why = False, str(error)
        else:
            why = "the server closed the connection"
        if done:
            return
        if time.monotonic() > until:
            raise DataError(
                f"send_lines: no answer from {address[0]}:{address[1]} for"
                f" {patience:g} s ({why}); what is scored is kept, so send again later"
            )
        time.sleep(0.1)


class _Sending:
    """One connection: what was sent over it, and what is acknowledged."""

    def __init__(
        self, connection: socket.socket, name: str, lines: Sequence[bytes], ahead: int
    ) -> None:
        self.connection, self.lines, self.ahead = connection, lines, ahead
        connection.sendall(HELLO + name.encode("ascii") + b"\n")
        self.left = b""
        self.acknowledged = self.sent = 0

    def run(self) -> bool:
        """Return whether all lines are acknowledged; False if the server has gone."""
        if not self._hear():
            return False
        self.sent = self.acknowledged
        while self.acknowledged < len(self.lines):
            if self.sent < min(len(self.lines), self.acknowledged + self.ahead):
                batch = self.lines[self.sent : self.sent + BATCH]
                self.connection.sendall(b"\n".join(batch) + b"\n")
                self.sent += len(batch)
                if not self._waiting():
                    continue
            if not self._hear():
                return False
        return True

    def _waiting(self) -> bool:
        """Say whether an answer has come."""
        self.connection.setblocking(False)
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK)) or True
        except BlockingIOError:
            return False
        finally:
            self.connection.setblocking(True)

    def _hear(self) -> bool:
        """Take the next answers."""
        while True:
            data = self.connection.recv(65_536)
            if not data:
                return False
            *answers, self.left = (self.left + data).split(b"\n")
            for answer in answers:
                word, _, number = answer.partition(b" ")
                if word != b"next" or not number.isdigit():
                    raise DataError(
                        f"send_lines: expected 'next N', got {answer[:40]!r}"
                    )
                self.acknowledged = int(number)
            if answers:
                return True
