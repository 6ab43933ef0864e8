"""Progress on a terminal: a row for each finished epoch, a bar for the present one."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from sillar.cli import show
from sillar.train import Callback, Run
from sillar.train import Progress as Lines
from sillar.train.callbacks import shown


def progress() -> Callback:
    """Return the live display on a terminal, and one line per epoch elsewhere."""
    console = show.messages()
    if sys.stderr.isatty() and not console.is_dumb_terminal:
        return Live(console)
    return Lines()


class Live(Callback):
    """A table that grows by a row per epoch, above a bar."""

    writes = True

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("[dim]{task.fields[rate]}[/] "),
            TextColumn("[bold]{task.fields[values]}[/]"),
            console=console,
            expand=True,
            transient=True,
            refresh_per_second=8,
        )
        self.headed = False

    def on_start(self, run: Run) -> None:
        self.first_step, self.start = run.step, time.perf_counter()
        self.task = self.bar.add_task("", total=run.batches, rate="", values="")
        if run.epoch < run.epochs and not run.stop:
            if run.gradients.note:
                self.console.print(run.gradients.note, style="dim")
            if run.step:
                self.console.print(f"going on after epoch {run.epoch}", style="dim")
            self._show(run)
            self.bar.start()

    def on_step(self, run: Run) -> None:
        self._show(run)

    def on_epoch_end(self, run: Run) -> None:
        cells = [text.rsplit(" ", 1) for text in shown(run.metrics)]
        if not self.headed:
            names = "".join(f"{name.replace('_', ' '):>14}" for name, _ in cells)
            self.console.print(f"{'epoch':<9}{names}{'time':>10}", style="bold")
            self.headed = True
        values = "".join(f" {value:>13}" for _, value in cells)
        place = f"{run.epoch}/{run.epochs}"
        seconds = clock(run.metrics["seconds"])
        self.console.print(f"{place:<9}{values}[dim]{seconds:>10}[/]")
        self._show(run)

    def on_stop(self, run: Run) -> None:
        self.bar.stop()
        if run.reason:
            show.say(f"stopped: {run.reason}")
        if self.headed:
            self.console.print()

    def _show(self, run: Run) -> None:
        seconds = time.perf_counter() - self.start
        rate = (run.step - self.first_step) / max(seconds, 1e-9)
        left = (run.epochs * run.batches - run.step) / max(rate, 1e-9)
        fields: dict[str, Any] = {"rate": ""}
        if run.step > self.first_step:
            fields["rate"] = f"{rate:5.1f} steps/s  {clock(left)} left"
        present = {k: run.metrics[k] for k in ("loss", "accuracy") if k in run.metrics}
        fields["values"] = "  ".join(shown(present))
        epoch = min(run.epoch + 1, run.epochs)
        self.bar.update(
            self.task,
            description=f"epoch {epoch}/{run.epochs}",
            completed=run.batch,
            **fields,
        )


def clock(seconds: float) -> str:
    """Return a span of time as people read it: 1.2 s, 0:42, 1:02:03."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}"
