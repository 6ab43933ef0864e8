"""Server: lines that clients send over TCP, acknowledged once they are scored."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Iterator
from typing import Any

from sillar.errors import ConfigError
from sillar.streams.folder import CHUNK, CLIENT, Block

HELLO = b"sillar lines 1 "  # then a name; what a client begins with that can resend
CLIENTS = 256
NAME = 128  # bytes
PLAIN = "@"  # begins the name of a client that has none


class _Client:
    """A connection: what came of a line that has no end yet, and whose lines."""

    def __init__(self, connection: socket.socket, source: str) -> None:
        self.connection, self.source = connection, source
        self.left = b""
        self.greeted = self.named = False
        self.count = 0  # lines that have come

    def fileno(self) -> int:
        return self.connection.fileno()


class Server:
    """Clients send lines, and are read only as fast as lines are scored.

    A client that begins with "sillar lines 1 NAME" is told "next N": its first N lines
    are scored and on the disk. It sends from line N on, and is told so again after each
    window; so it can resend after any fault, and nothing is lost or counted twice. What
    others send, such as syslog or nc, is lost if this process dies before it is scored.
    """

    def __init__(
        self, address: tuple[str, int], places: dict[str, dict[str, Any]]
    ) -> None:
        self.places, self.clients = places, dict[str, _Client]()
        self.number = 0
        self.selector = selectors.DefaultSelector()
        try:
            self.socket = socket.create_server(address, backlog=CLIENTS)
        except OSError as error:
            raise ConfigError(
                f"follow: cannot listen on {address[0]}:{address[1]}: {error.strerror}"
            ) from None
        self.socket.setblocking(False)
        self.selector.register(self.socket, selectors.EVENT_READ, None)
        self.address = self.socket.getsockname()[:2]

    def read(self, seconds: float) -> Iterator[Block]:
        """Yield lines that have come, waiting for some for so many seconds."""
        for key, _ in self.selector.select(seconds):
            if key.data is None:
                self._accept()
            else:
                yield from self._from(key.data)

    def scored(self, source: str, end: int) -> None:
        """Hear how far a source has been scored, and tell its client."""
        client = self.clients.get(source)
        if client is not None and client.named:
            self._tell(client, end)

    def close(self) -> None:
        """Close all connections."""
        for client in list(self.clients.values()):
            self._drop(client)
        self.selector.close()
        self.socket.close()

    def _accept(self) -> None:
        try:
            connection, peer = self.socket.accept()
        except OSError:
            return
        if len(self.clients) >= CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        self.number += 1
        source = f"{CLIENT}{PLAIN}{peer[0]}:{peer[1]}:{self.number}"
        client = _Client(connection, source)
        client.count = self._scored(source)
        self.clients[client.source] = client
        self.selector.register(connection, selectors.EVENT_READ, client)

    def _from(self, client: _Client) -> Iterator[Block]:
        try:
            data = client.connection.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            if client.left and client.greeted and not client.named:
                yield self._block(client, client.left + b"\n", 1)  # nobody resends it
            self._drop(client)
            return
        client.left += data
        if not client.greeted and not self._greet(client):
            return
        cut = client.left.rfind(b"\n") + 1
        if cut:
            lines, client.left = client.left[:cut], client.left[cut:]
            yield self._block(client, lines, lines.count(b"\n"))
        else:
            client.left = client.left[:CHUNK]  # the rest of so long a line is left away

    def _block(self, client: _Client, lines: bytes, count: int) -> Block:
        """Return lines as a block, without those that are scored already.

        A client that has come again sends what it had sent before, and that may have
        been scored meanwhile.
        """
        done = min(count, max(0, self._scored(client.source) - client.count))
        start = client.count + (done if client.named else 0)
        if start > client.count:
            lines = lines.split(b"\n", done)[-1]
        client.count += count
        return Block(client.source, lines, start, client.count, numbered=True)

    def _scored(self, source: str) -> int:
        return int(self.places.get(source, {}).get("end", 0))

    def _greet(self, client: _Client) -> bool:
        """Take the name from the first line, if it is one; say if lines begin."""
        begin = client.left[: len(HELLO)]
        if not HELLO.startswith(begin):
            client.greeted = True
            return True
        line, end, rest = client.left.partition(b"\n")
        if not end and len(line) <= len(HELLO) + NAME:
            return False
        name = line[len(HELLO) :].decode("ascii", "replace").strip()
        usable = name and len(name) <= NAME and name.isprintable()
        if rest or not usable or name.startswith(PLAIN):
            self._drop(client)  # who sends lines does not know yet from where on
            return False
        self.clients.pop(client.source)
        client.source, client.left = f"{CLIENT}{name}", b""
        if client.source in self.clients:  # the same one again, after a fault
            self._drop(self.clients[client.source])
        self.clients[client.source] = client
        client.greeted = client.named = True
        client.count = self._scored(client.source)
        self._tell(client, client.count)
        return False

    def _tell(self, client: _Client, count: int) -> None:
        answer = b"next %d\n" % count
        try:
            whole = client.connection.send(answer) == len(answer)
        except OSError:
            whole = False
        if not whole:  # gone, or does not read: it will ask again
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(client.connection)
        client.connection.close()
        if self.clients.get(client.source) is client:
            del self.clients[client.source]
