"""`sillar follow`: lines of logs, scored as they are written."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from sillar.cli import show
from sillar.cli.options import Debug, Json
from sillar.cli.record import model_of
from sillar.errors import ConfigError

EVERY = 0.5  # seconds between two looks of the display


Model = Annotated[
    Path, typer.Argument(metavar="RUN|MODEL.safetensors", help="Run, or model file.")
]
Logs = Annotated[
    Path | None,
    typer.Argument(metavar="DIR", help="Logs to read, also while they rotate."),
]
Scores = Annotated[
    Path, typer.Option(metavar="FILE", help="Where the scores go, as JSON lines.")
]
Listen = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Take lines over TCP, too.")
]
Pattern = Annotated[str, typer.Option(metavar="GLOB", help="Names of files to read.")]
Limit = Annotated[
    float | None,
    typer.Option(metavar="SCORE", help="An alarm from here on; or the model's own."),
]
Delay = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="A window waits no longer.")
]
Once = Annotated[
    bool, typer.Option("--once", metavar="", help="End when all files are read.")
]


def follow(
    model: Model,
    folder: Logs = None,
    out: Scores = Path("scores.jsonl"),
    listen: Listen = None,
    pattern: Pattern = "*",
    threshold: Limit = None,
    delay: Delay = 1.0,
    once: Once = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score logs as they are written; go on after any fault, none lost or twice."""
    from sillar.streams import follow

    display = _Display(quiet=as_json)
    options: dict[str, Any] = {"folder": folder, "pattern": pattern, "delay": delay}
    options |= {"threshold": threshold, "on_batch": display}
    if listen is not None:
        options["listen"] = address(listen)
    path = model_of(model) if model.is_dir() else model
    if listen is not None:
        show.say(f"listening on {listen}", style="dim")
    with display.status:
        counts = follow(path, out, once=once, **options)
    if as_json:
        show.as_json({"out": str(out), **counts._asdict()})
    else:
        show.say(_line(counts, display.seconds()))


def address(text: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) >= 2**16:
        raise ConfigError(
            f"follow: --listen must be HOST:PORT, like 127.0.0.1:9000, got {text!r:.60}"
        )
    return host.strip("[]"), int(port)


class _Display:
    """Says how it goes, a line for each alarm above it."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet, self.start, self.last = quiet, time.monotonic(), 0.0
        console = show.messages()
        live = sys.stderr.isatty() and not console.is_dumb_terminal and not quiet
        self.status: Any = console.status("waiting for lines") if live else None
        self.status = self.status or nullcontext()
        self.live = live

    def seconds(self) -> float:
        """Return for how long it has run."""
        return max(time.monotonic() - self.start, 1e-9)

    def __call__(self, records: list[dict[str, Any]], counts: Any) -> None:
        if self.quiet:
            return
        for record in records:
            if "alarm" in record:
                where = f"{record['source']} {record['start']} to {record['end']}"
                show.say(f"alarm  {record['score']:.4g}  {where}", style="yellow")
        now = time.monotonic()
        if self.live and now - self.last > EVERY:
            self.last = now
            self.status.update(_line(counts, self.seconds()))


def _line(counts: Any, seconds: float) -> str:
    return (
        f"{counts.lines:,} lines  {counts.windows:,} windows  {counts.alarms:,} alarms"
        f"  {counts.lines / seconds:,.0f} lines/s"
    )
