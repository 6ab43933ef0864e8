"""Bars and whether they are met; tables, pictures and files of results."""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import keep, versions

BUSY = 0.1  # cores at work for others, from which on a measurement is doubtful
RED, PLAIN = "\033[31m", "\033[0m"
SHOWN = 4  # times the highest bar: how far a picture shows ratios


class Bar(NamedTuple):
    """How many times better than a peer we are, and how many we must be, if any."""

    name: str
    ratio: float
    least: float | None = None
    valid: bool = True  # False where libraries did not compute the same

    @property
    def missed(self) -> bool:
        return not self.valid or (self.least is not None and self.ratio < self.least)

    def __str__(self) -> str:
        if self.least is None:
            return f"{self.ratio:6.2f}"
        words = " MISSED" if self.missed else ""
        text = f"{self.ratio:6.2f} (bar {self.least:.2f}){words}"
        return f"{RED}{text}{PLAIN}" if words and sys.stdout.isatty() else text


def geometric_mean(bars: Iterable[Bar], least: float) -> Bar:
    """Return the bar of the mean over workloads."""
    ratio = statistics.geometric_mean(bar.ratio for bar in bars)
    return Bar("geometric mean", ratio, least)


def table(title: str, rows: Mapping[str, Mapping[str, float]], bars: dict) -> str:
    """Return a row for each workload: a value for each library, then its bars."""
    libraries = list(dict.fromkeys(k for row in rows.values() for k in row))
    wide = max(map(len, rows)) + 2
    lines = [f"\n{title}", " " * wide + "".join(f"{k:>17}" for k in libraries)]
    for name, row in rows.items():
        values = "".join(f"{row.get(k, math.nan):>17.3f}" for k in libraries)
        ends = "".join(f"  {bar.name} {bar}" for bar in bars[name])
        lines.append(f"{name:{wide}}{values}{ends}")
    return "\n".join(lines)


def remarks(rows: Mapping[str, Mapping[str, Any]], agree: float) -> list[str]:
    """Return what makes times say little: other results, or other work meanwhile."""
    lines = []
    for name, row in rows.items():
        far = {k: f"{v:.0e}" for k, v in row["apart"].items() if not v <= agree}
        if far:
            lines.append(f"{name}: results differ from PyTorch's by {far}")
        if row["others_cores"] > BUSY:
            lines.append(
                f"{name}: other processes kept {row['others_cores']} cores busy:"
                " measure again on a quiet machine"
            )
    return lines


def options(
    description: str, names: Iterable[str], *, threads: bool = True
) -> argparse.ArgumentParser:
    """Return what all commands can be told."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", nargs="+", choices=[*names], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=20, help="fewer are faster")
    if threads:
        text = "numbers of threads; 1 and all by default"
        parser.add_argument("--threads", type=int, nargs="+", help=text)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--keep", action="store_true", help="write into results/")
    return parser


def finish(
    name: str, found: dict[str, Any], panels: dict[str, list[Bar]], told: Any
) -> None:
    """Write the results and their picture if asked for; print them as JSON if asked.

    A panel of the picture is a list of bars under a title.
    """
    bars = {
        title: [{**bar._asdict(), "missed": bar.missed} for bar in panel]
        for title, panel in panels.items()
    }
    result = {"peers": versions("torch", "jax", "onnxruntime"), **found, "bars": bars}
    if told.keep:
        path = keep(name, result)
        picture(path.with_suffix(".svg"), panels)
        print(f"written: {path}, {path.with_suffix('.svg').name}", file=sys.stderr)
    if told.json:
        print(json.dumps(result))


def picture(path: Path, panels: dict[str, list[Bar]]) -> None:
    """Draw each panel as horizontal bars: green where the bar is met, red if missed."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "sillar"  # the same file for the same numbers
    from matplotlib import pyplot

    heights = [len(panel) for panel in panels.values()]
    figure, axes = pyplot.subplots(
        len(panels),
        figsize=(8, 0.34 * sum(heights) + 0.9 * len(heights)),
        gridspec_kw={"height_ratios": heights},
        layout="constrained",
        squeeze=False,
    )
    for (title, panel), ax in zip(panels.items(), axes[:, 0], strict=True):
        _panel(ax, title, panel)
    axes[-1, 0].set_xlabel("line: the bar; green: met, red: missed, grey: none is set")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _panel(ax: Any, title: str, panel: list[Bar]) -> None:
    places = range(len(panel))
    colours = [_colour(bar) for bar in panel]
    ax.barh(places, [bar.ratio for bar in panel], color=colours, height=0.7)
    most = max(bar.least or 1.0 for bar in panel)
    end = 1.05 * max(most, min(SHOWN * most, max(bar.ratio for bar in panel)))
    for place, bar in zip(places, panel, strict=True):
        ax.text(end, place, f" {bar.ratio:.2f}", va="center", fontsize=9)
        if bar.least is not None:
            ax.vlines(bar.least, place - 0.45, place + 0.45, color="black")
    ax.set_yticks(places, [bar.name for bar in panel])
    ax.set_xlim(0, end)
    ax.invert_yaxis()
    ax.set_title(title, loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)


def _colour(bar: Bar) -> str:
    if bar.missed:
        return "#c0392b"
    return "#8c939a" if bar.least is None else "#2e8b57"
