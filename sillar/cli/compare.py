"""`sillar compare`: what differs between runs, and whether the difference is real."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sillar.cli import show
from sillar.cli.recipe import leaves
from sillar.cli.report import Material, answers_of, material_of
from sillar.errors import ConfigError
from sillar.evidence import bootstrap, figures
from sillar.evidence.page import Page, Section


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
    _differences(section, gaps)
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
    told = [(gap["run"], f"accuracy {_told(gap)}") for gap in result["differences"]]
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
    """Return how far each run's accuracy is from the first's, on the same rows."""
    first, *others = found.items()
    known = answers_of(first[1], first[1].parts.test)
    digest, gaps = first[1].parts.test.digest(), []
    for name, material in others:
        part = answers_of(material, material.parts.test)
        if known is None or part is None or material.parts.test.digest() != digest:
            continue
        right = [each.guesses == each.target for each in (part, known)]
        gap = bootstrap(_mean_gap, known.target, np.stack(right, axis=1))
        gaps.append({"run": name, "against": first[0], **gap._asdict()})
    return gaps


def _mean_gap(target: Any, right: Any) -> float:
    return float(np.mean(right[:, 0].astype(float) - right[:, 1]))


def _told(gap: dict[str, Any]) -> str:
    size = f"{gap['value']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]"
    real = gap["low"] > 0 or gap["high"] < 0
    return f"{size} against {gap['against']}{'' if real else ', may be chance'}"


def _differences(section: Section, gaps: list[dict[str, Any]]) -> None:
    if not gaps:
        section.text(
            "The runs were not tested on the same labelled rows, so they cannot be"
            " compared row by row.",
            warn=True,
        )
    for gap in gaps:
        section.text(
            f"{gap['run']}: accuracy {_told(gap)}; a paired bootstrap of the same rows,"
            " 95 %."
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
