"""Metrics for other people's tools: a CSV file, and TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sillar.errors import missing
from sillar.train.callbacks import Callback
from sillar.train.run import Run


class CSVLog(Callback):
    """Write one row per epoch to `metrics.csv` in a directory."""

    writes = True

    def __init__(self, directory: str | Path) -> None:
        self.path = Path(directory) / "metrics.csv"

    def on_start(self, run: Run) -> None:
        """Write the epochs a resumed run already has, and no others."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write(run)

    def on_epoch_end(self, run: Run) -> None:
        self._write(run)

    def _write(self, run: Run) -> None:
        """Write all rows: a metric may come up later than the first epoch."""
        import csv

        names = list(dict.fromkeys(name for row in run.history for name in row))
        with self.path.open("w", newline="") as file:
            table = csv.DictWriter(file, names)
            table.writeheader()
            table.writerows(run.history)


class TensorBoard(Callback):
    """Write event files that TensorBoard shows, to `events/` in a directory.

    Each metric is a scalar by epoch. `tensorboard --logdir DIRECTORY` shows them.
    """

    writes = True

    def __init__(self, directory: str | Path) -> None:
        self.path = Path(directory) / "events"
        self.writer: Any = None

    def on_start(self, run: Run) -> None:
        """Write the epochs a resumed run already has, and no others."""
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise missing("tensorboardX", "track", "TensorBoard") from None
        for old in self.path.glob("events.out.tfevents.*"):
            old.unlink()
        self.writer = SummaryWriter(str(self.path))
        for row in run.history:
            self._add(row)

    def on_epoch_end(self, run: Run) -> None:
        self._add(run.metrics)
        self.writer.flush()

    def on_stop(self, run: Run) -> None:
        if self.writer is not None:
            self.writer.close()

    def _add(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, row["epoch"])
