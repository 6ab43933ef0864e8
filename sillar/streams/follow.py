"""Follow: score lines as they come, window by window, and keep the scores."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sillar.data import LogWindows
from sillar.errors import ConfigError, FormatError
from sillar.nn import Layer
from sillar.streams.folder import Folder
from sillar.streams.journal import Journal
from sillar.streams.parser import Parser
from sillar.streams.server import Server
from sillar.streams.windows import Window, Windows
from sillar.train import load, load_encoder, predict
from sillar.train.scoring import class_names, probabilities, read_notes

SCAN = 0.25  # seconds between two looks at a directory
PAUSE = 0.005  # seconds of rest when nothing has come


class Counts(NamedTuple):
    """What a follower has done."""

    lines: int
    windows: int
    alarms: int
    delay: float  # seconds from a window's last line to its score on the disk


class Scorer:
    """Windows as scores, by a model that was saved with a `LogWindows` encoder.

    A model with one output gives a score, one with more a class and its probability.
    """

    def __init__(self, path: Path, threshold: float | None) -> None:
        encoder = load_encoder(path)
        if not isinstance(encoder, LogWindows):
            raise ConfigError(
                f"follow: expected a model in {str(path)!r} that was saved with a"
                f" LogWindows encoder, got {encoder!r:.60}: save(model, path,"
                " encoder=windows)"
            )
        self.model: Layer = load(path)
        self.encoder, self.path = encoder, path
        self.notes = read_notes(path)
        kept = self.notes.get("threshold")
        if threshold is None and isinstance(kept, dict):
            threshold = kept.get("value")
        self.threshold = threshold

    def __call__(self, windows: list[Window]) -> list[dict[str, Any]]:
        """Return the records of windows, which may differ in length."""
        x = np.concatenate([self.encoder.counted(w.numbers[None]) for w in windows])
        outputs = predict(self.model, x).reshape(len(x), -1)
        if not np.isfinite(outputs).all():
            raise FormatError(f"follow: the model in {str(self.path)!r} gives NaN")
        width = outputs.shape[1]
        names = class_names(self.path, self.notes, width) if width > 1 else None
        if names is None:
            return [{"score": float(f"{value:.6g}")} for value in outputs[:, 0]]
        chances = probabilities(self.model, outputs)
        return [
            {"class": names[int(row.argmax())], "score": float(f"{row.max():.6g}")}
            for row in chances
        ]


class Follower:
    """Scores what comes from a directory, from clients, or both, into one file.

    Nothing is lost or scored twice when the process is killed at any moment and started
    again with the same output: see `Journal`, `Folder` and `Server`. A window is scored
    when it is full, or `delay` seconds after its first line. `on_batch(records,
    counts)` is told of scores once they are on the disk.
    """

    def __init__(
        self,
        model: str | Path,
        out: str | Path,
        *,
        folder: str | Path | None = None,
        pattern: str = "*",
        listen: tuple[str, int] | None = None,
        delay: float = 1.0,
        threshold: float | None = None,
        on_batch: Callable[[list[dict[str, Any]], Counts], None] | None = None,
    ) -> None:
        if folder is None and listen is None:
            raise ConfigError("follow: name a folder, an address to listen on, or both")
        if folder is not None and not Path(folder).is_dir():
            raise ConfigError(f"follow: {str(folder)!r} is no directory")
        self.scorer = Scorer(Path(model), threshold)
        self.journal = Journal(Path(out))
        places = self.journal.places
        self.folder = Folder(Path(folder), places, pattern) if folder else None
        try:
            self.server = Server(listen, places) if listen is not None else None
        except ConfigError:
            self.journal.close()
            raise
        encoder = self.scorer.encoder
        self.windows = Windows(Parser(encoder.tokenizer), encoder.window, delay)
        self.on_batch = on_batch
        self.counts = Counts(0, 0, 0, 0.0)
        self.stopping = False
        self._scanned = -SCAN

    def run(self, *, once: bool = False) -> Counts:
        """Go on until `stop` is called; with `once` until all files are read."""
        try:
            while not self.stopping:
                came = self.turn()
                if came and once:
                    self._scanned = -SCAN  # what was read tells which files are which
                elif once and not (self.folder and self.folder.waiting):
                    break
            self._score(self.windows.rest(time.monotonic()))
        finally:
            self.close()
        return self.counts

    def turn(self) -> bool:
        """Read, score and keep what has come; say whether anything had."""
        full, came = [], False
        now = time.monotonic()
        if self.folder is not None:
            if self.folder.waiting or now - self._scanned >= SCAN:
                self.folder.scan()
                self._scanned = now
            for block in self.folder.read():
                full += self.windows.add(block, time.monotonic())
                came = True
        if self.server is not None:
            for block in self.server.read(0.0 if came else PAUSE):
                full += self.windows.add(block, time.monotonic())
                came = True
        elif not came:
            time.sleep(PAUSE)
        self._score(full + self.windows.due(time.monotonic()))
        return came

    def stop(self) -> None:
        """End after the present turn."""
        self.stopping = True

    def close(self) -> None:
        """Close the files and connections."""
        self.journal.close()
        for source in (self.folder, self.server):
            if source is not None:
                source.close()

    def _score(self, windows: list[Window]) -> None:
        if not windows:
            return
        records: list[dict[str, Any]] = []
        for window, score in zip(windows, self.scorer(windows), strict=True):
            lines = len(window.numbers)
            where = {"source": window.source, "start": window.start, "end": window.end}
            record: dict[str, Any] = where | {"lines": lines} | score
            if window.mark is not None:
                record["mark"] = window.mark
            limit = self.scorer.threshold
            if limit is not None and score["score"] >= limit and "class" not in score:
                record["alarm"] = True
            records.append(record)
        self.journal.write(records, time.monotonic())
        if self.server is not None:
            for source, end in {r["source"]: r["end"] for r in records}.items():
                self.server.scored(source, end)
        self._count(records, time.monotonic() - min(w.since for w in windows))

    def _count(self, records: list[dict[str, Any]], delay: float) -> None:
        lines, windows, alarms, _ = self.counts
        self.counts = Counts(
            lines + sum(r["lines"] for r in records),
            windows + len(records),
            alarms + sum("alarm" in r for r in records),
            delay,
        )
        if self.on_batch is not None:
            self.on_batch(records, self.counts)


def follow(
    model: str | Path, out: str | Path, *, once: bool = False, **options: Any
) -> Counts:
    """Score lines as they come until Ctrl-C, with the options of `Follower`.

    Each line of `out` is a window: its source, where it starts and ends there, in bytes
    of a file or in lines of a client, how many lines it has, and its score.
    """
    follower = Follower(model, out, **options)
    with _ended_by_signals(follower):
        return follower.run(once=once)


@contextmanager
def _ended_by_signals(follower: Follower) -> Iterator[None]:
    """Let Ctrl-C, and SIGTERM, end a follower after its present turn."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: Any) -> None:
        follower.stop()

    usual = {n: signal.signal(n, end) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
