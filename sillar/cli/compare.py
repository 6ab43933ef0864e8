"""`sillar compare`: what differs between runs, and whether the difference is real."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sillar.cli import show
from sillar.cli.recipe import leaves
from sillar.cli.report import NAMES, Material, answers_of, material_of, values_of
from sillar.errors import ConfigError
from sillar.evidence import Interval, bootstrap, figures, headline
from sillar.evidence.findings import RESAMPLES
from sillar.evidence.page import Page, Section
from sillar.train.metrics import accuracy, mean_squared_error, pr_auc

COLUMNS = {  # of [data]: what is made of rows, and not which are tested on
    *("numbers", "categories", "log", "codes", "drop", "shape"),
    *("validation", "augment"),
}


def compare(
    directories: Sequence[Path], folder: Path | None, out: Path
) -> dict[str, Any]:
    """Write the page that compares finished runs with the first; return its numbers."""
    if len(directories) < 2:
        raise ConfigError(
            f"compare: expected two runs or more, got {len(directories)}: name them all"
        )
    runs = dict(zip(_names(directories), directories, strict=True))
    found = {name: material_of(path, folder) for name, path in runs.items()}
    metrics = {name: _numbers(material) for name, material in found.items()}
    gaps = _gaps(found)
    page = Page("Runs compared", ", ".join(found))
    section = page.section("Metrics")
    first = next(iter(metrics.values()))
    section.table(
        [
            {"metric": key, **{run: row.get(key, "") for run, row in metrics.items()}}
            for key in first
        ]
    )
    _differences(section, [*found], gaps)
    shown = {name: material.history for name, material in found.items()}
    page.section("Training").pictures(
        *(
            (figures.side_by_side(shown, metric), f"{metric} by epoch")
            for metric in ("loss", "val_loss", "accuracy", "val_accuracy")
            if all(any(r.get(metric) is not None for r in h) for h in shown.values())
        )
    )
    _recipes(page.section("What differs"), found)
    page.save(out)
    return {"file": str(out), "metrics": metrics, "differences": gaps}


def tables(result: dict[str, Any]) -> list[Any]:
    """Return what people read of it: a row for each metric, and the differences."""
    metrics = result["metrics"]
    rows = [
        [name, *(row.get(name) for row in metrics.values())]
        for name in next(iter(metrics.values()))
    ]
    told = [(gap["run"], _told(gap)) for gap in result["differences"]]
    if apart := _apart([*metrics], result["differences"]):
        show.say(apart, style="yellow")
    return [
        show.table("metrics", ["", *map(show.clean, metrics)], rows),
        *([show.pairs("difference", told)] if told else []),
        show.pairs("page", [("file", result["file"])]),
    ]


def _names(directories: Sequence[Path]) -> list[str]:
    """Return names that tell the runs apart."""
    short = [path.resolve().name for path in directories]
    if len(set(short)) == len(short):
        return short
    long = [str(path) for path in directories]
    if len(set(long)) < len(long):
        raise ConfigError("compare: expected different runs, got one of them twice")
    return long


def _numbers(material: Material) -> dict[str, float]:
    """Return the metrics that every run of this kind has, accuracy first."""
    found = {k: v for k, v in material.metrics.items() if isinstance(v, float)}
    return dict(sorted(found.items(), key=lambda item: item[0] not in ("accuracy",)))


def _gaps(found: dict[str, Material]) -> list[dict[str, Any]]:
    """Return how far each run is from the first, by row, where rows are the same."""
    first, *others = found.items()
    known, gaps = _judged(first[1]), []
    for name, material in others:
        part = _judged(material)
        if known is None or part is None or known.keys() != part.keys():
            continue
        if not _same_rows(material, first[1]):
            continue
        for metric, (measure, target, guess) in known.items():
            gap = _gap(measure, target, part[metric][2], guess)
            told = {"run": name, "against": first[0], "metric": metric}
            gaps.append(told | gap._asdict())
    return gaps


def _same_rows(one: Material, other: Material) -> bool:
    """Say whether both were tested on the same rows, though made of other columns."""
    first, second = one.parts.test, other.parts.test
    if first.digest() == second.digest():
        return True
    chosen = [
        {k: v for k, v in each.record["recipe"]["data"].items() if k not in COLUMNS}
        for each in (one, other)
    ]
    return chosen[0] == chosen[1] and np.array_equal(first.y, second.y)


def _judged(material: Material) -> dict[str, tuple[Any, Any, Any]] | None:
    """Return metrics by name, each as a function, truths and predictions of rows.

    Average precision comes first where a class is rare.
    """
    part = answers_of(material, material.parts.test)
    if part is None:
        known = values_of(material)
        return known and {"mse": (mean_squared_error, *known)}
    shares = np.bincount(part.target, minlength=part.probabilities.shape[1])
    found = {"accuracy": (accuracy, part.target, part.guesses)}
    first = headline(float(shares.min() / shares.sum()))
    if first == "pr_auc" and shares.min():
        return {"pr_auc": (pr_auc, part.target, part.probabilities), **found}
    return found


def _gap(measure: Any, target: Any, one: Any, other: Any) -> Interval:
    """Return by how much `one` has more, of rows that are drawn for both at once."""
    rows = np.arange(len(target))

    def difference(truth: Any, drawn: Any) -> float:
        return float(measure(truth, one[drawn]) - measure(truth, other[drawn]))

    by_class = target.dtype.kind != "f"
    return bootstrap(difference, target, rows, resamples=RESAMPLES, stratify=by_class)


def _told(gap: dict[str, Any]) -> str:
    size = f"{gap['value']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]"
    real = gap["low"] > 0 or gap["high"] < 0
    chance = "" if real else ", may be chance"
    name = NAMES.get(gap["metric"], gap["metric"])
    return f"{name} {size} against {gap['against']}{chance}"


def _apart(names: Sequence[str], gaps: list[dict[str, Any]]) -> str:
    """Return what is said of runs that have no row in common with the first."""
    first, *others = names
    left = [name for name in others if name not in {gap["run"] for gap in gaps}]
    if not left:
        return ""
    return (
        f"Not tested on the same labelled rows as {first}, so they cannot be compared"
        f" row by row: {', '.join(left)}."
    )


def _differences(
    section: Section, names: Sequence[str], gaps: list[dict[str, Any]]
) -> None:
    if apart := _apart(names, gaps):
        section.text(apart, warn=True)
    for gap in gaps:
        section.text(
            f"{gap['run']}: {_told(gap)}; a paired bootstrap of the same rows, 95 %."
        )


def _recipes(section: Section, found: dict[str, Material]) -> None:
    """Add the settings that are not the same in all runs."""
    settings = {
        name: {key: str(value) for key, value in leaves(material.record["recipe"])}
        for name, material in found.items()
    }
    keys = dict.fromkeys(key for row in settings.values() for key in row)
    rows = [
        {"setting": key, **{name: row.get(key, "") for name, row in settings.items()}}
        for key in keys
        if len({row.get(key, "") for row in settings.values()}) > 1
    ]
    section.table(rows)
    if not rows:
        section.text("The recipes are the same.")
