"""`sillar report`: a page on how good a run's model is, and how that is known."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sillar import train
from sillar.cli.kinds import add_kinds
from sillar.cli.origin import Source
from sillar.cli.peers import add_peers
from sillar.cli.plan import make_loss
from sillar.cli.recipe import written
from sillar.cli.record import MODEL, model_of, read_record
from sillar.cli.sources import source_of
from sillar.cli.thresholds import add_threshold
from sillar.data import Dataset
from sillar.data.source import open_source
from sillar.errors import DataError, SillarError
from sillar.evidence import (
    Interval,
    baselines,
    brier_score,
    calibration_curve,
    check_splits,
    figures,
)
from sillar.evidence.baselines import are_for, few, headline
from sillar.evidence.findings import (
    Tested,
    class_intervals,
    intervals,
    tested,
    value_intervals,
    with_intervals,
    worst,
)
from sillar.evidence.page import Page, Section
from sillar.train.evaluate import class_count, counted, gives_logits, scores_of
from sillar.train.scoring import read_notes

FILE = "report.html"
WIDEST = 4096  # columns of inputs that baselines and copies are looked for in
MOST = 200_000  # rows
SHOWN = 8  # values of an example
NAMES = {
    "accuracy": "accuracy",
    "precision": "precision (macro)",
    "recall": "recall (macro)",
    "f1": "F1 (macro)",
    "roc_auc": "area under ROC",
    "pr_auc": "average precision",
}


class Material(NamedTuple):
    """What a run left, and what its model says of its data."""

    directory: Path
    record: dict[str, Any]
    history: list[dict[str, Any]]
    parts: Any
    model: Any
    metrics: dict[str, Any]
    notes: dict[str, Any]
    origin: Source


def report(
    directory: Path,
    folder: Path | None,
    out: Path | None,
    promise: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the report of a finished run; return where it is and its metrics.

    `promise` is what a threshold shall keep, as `choose_threshold` takes it.
    """
    material = material_of(directory, folder)
    record, path = material.record, directory / FILE if out is None else out
    page = Page(record["name"], f"trained {record.get('ended') or 'not to its end'}")
    _data(page.section("Data and splits"), material)
    _training(page.section("Training"), material)
    test = material.parts.test
    part = answers_of(material, test)
    if part is None:
        _values(page, material)
    else:
        _classes(page, material, part, promise)
    _environment(page.section("Environment"), record)
    _again(page.section("How to reproduce"), material)
    page.save(path)
    return {"run": str(directory), "file": str(path), "metrics": material.metrics}


def material_of(directory: Path, folder: Path | None) -> Material:
    """Return what a finished run left, and the metrics of its model now."""
    model = train.load(model_of(directory))
    record = read_record(directory)
    recipe = record["recipe"]
    known = record.get("data")
    origin, parts = source_of(recipe, model_of(directory), folder, known)
    metrics = train.evaluate(model, parts.test, loss=make_loss(recipe))
    history = history_of(directory / "metrics.jsonl")
    notes = {**origin.notes, **read_notes(model_of(directory))}
    return Material(directory, record, history, parts, model, metrics, notes, origin)


def history_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of `metrics.jsonl`, one for each epoch."""
    if not path.exists():
        return []
    with open_source(path, "report") as stream:
        text = stream.read(2**26).decode("utf-8", "replace")
    try:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise DataError(f"report: {str(path)!r} is not JSON: {error!s:.80}") from None
    return [row for row in rows if isinstance(row, dict) and "epoch" in row]


def answers_of(material: Material, part: Dataset) -> Tested | None:
    """Return labels and probabilities; None where the targets are values or text."""
    outputs = train.predict(material.model, part.x)
    scores = scores_of(outputs, part.y, class_count(part))
    if scores is None or "text" in material.notes:
        return None
    labels, scores = counted(part.y.reshape(-1), scores, part.ignored)
    return tested(labels, scores, gives_logits(material.model))


def _names(material: Material, part: Tested) -> list[str]:
    classes = material.parts.train.classes
    n = part.probabilities.shape[1]
    return (
        list(classes) if classes and len(classes) == n else [str(c) for c in range(n)]
    )


def _data(section: Section, material: Material) -> None:
    digests = material.record.get("data") or {}
    parts = {k: p for k, p in material.parts._asdict().items() if p is not None}
    section.table(
        [
            {
                "part": name,
                "rows": len(part),
                "inputs": str(tuple(part.x.shape[1:])),
                "sha256": part.digest()[:16],
                "as trained on": _same(part.digest(), digests.get(name)),
            }
            for name, part in parts.items()
        ]
    )
    train_part = parts["train"]
    if class_count(train_part) and "text" not in material.notes:
        counts = {k: _shares(p, class_count(train_part)) for k, p in parts.items()}
        classes = train_part.classes or range(class_count(train_part))
        section.table(
            [
                {"class": str(c), **{k: int(n[i]) for k, n in counts.items()}}
                for i, c in enumerate(classes)
            ],
            "Rows of each class",
        )
    if _is_small(train_part):
        try:
            check_splits({k: np.asarray(p.x) for k, p in parts.items()})
            section.text("No row of one part is in another.")
        except SillarError as error:
            section.text(str(error), warn=True)


def _shares(part: Dataset, classes: int) -> Any:
    return np.bincount(part.answers().reshape(-1).astype(int), minlength=classes)


def _same(digest: str, known: Any) -> str:
    return (
        "unknown" if known is None else "yes" if digest == known else "no, other data"
    )


def _is_small(part: Dataset) -> bool:
    width = math.prod(part.x.shape[1:])
    return 0 < width <= WIDEST and 0 < len(part) <= MOST and part.y.ndim == 1


def _training(section: Section, material: Material) -> None:
    record, history = material.record, material.history
    section.text(
        f"{len(history)} epochs; ended because {record.get('reason') or 'unknown'}."
    )
    drawn = [
        (figures.learning(history, metric), f"{metric} by epoch")
        for metric in ("loss", "accuracy")
        if any(row.get(metric) is not None for row in history)
    ]
    if drawn:
        section.pictures(*drawn)


def _classes(
    page: Page, material: Material, part: Tested, promise: Mapping[str, Any]
) -> None:
    """Add all that is said of a classifier."""
    names = _names(material, part)
    found = intervals(part)
    rarest = np.bincount(part.target, minlength=len(names)).min()
    first = headline(float(rarest) / len(part.target))
    order = [first, *(name for name in found if name != first)]
    page.headline = [
        {
            "name": NAMES[name],
            "value": f"{found[name].value:.3f}",
            "note": f"{found[name].low:.3f} to {found[name].high:.3f}",
        }
        for name in order[:3]
        if name in found
    ]
    _metrics(page.section("Metrics"), material, part, found)
    _baselines(page.section("Baselines"), material, first)
    if len(names) == 2:
        held = material.parts.validation
        chosen_on = None if held is None else answers_of(material, held)
        given = material.notes.get("threshold")
        section = page.section("Threshold")
        add_threshold(section, part, chosen_on, promise, given, names)
        files = [(f, answers_of(material, f.part)) for f in material.origin.kinds()]
        known = [(file, told) for file, told in files if told is not None]
        if known:
            add_kinds(page.section("Kinds"), known)
            add_peers(page, material.origin, material.record["recipe"], known)
    _mistakes(page.section("Worst mistakes"), material, part, names)


def _metrics(
    section: Section, material: Material, part: Tested, found: Mapping[str, Interval]
) -> None:
    names = _names(material, part)
    section.table(
        [
            {"metric": NAMES[k], "value": i.value, "from": i.low, "to": i.high}
            for k, i in found.items()
        ],
        "On the test part, with 95 % bootstrap intervals",
    )
    if np.bincount(part.target, minlength=len(names)).min() < 0.05 * len(part.target):
        section.text(
            "The rarest class has less than 5 % of the rows, so accuracy says little.",
            warn=True,
        )
    each = zip(material.metrics["per_class"], class_intervals(part), strict=True)
    section.table([with_intervals(*row) for row in each], "By class, the same")
    matrix = material.metrics["confusion_matrix"]
    section.pictures(
        (
            figures.confusion(matrix, names),
            "Rows are the truth, columns the prediction; shades are shares of a row.",
        ),
        (
            figures.roc(part, names),
            f"{names[1]} against {names[0]}."
            if len(names) == 2
            else "Each class against the rest.",
        ),
        (figures.precision_recall(part, names), "The same for precision and recall."),
        (figures.calibration(part), _calibrated(part)),
    )


def _calibrated(part: Tested) -> str:
    truth, p = figures.certainty(part)
    error = calibration_curve(truth, p).error
    return (
        f"On the dots a probability means what it says. Expected error {error:.3f},"
        f" Brier score {brier_score(truth, p):.3f}; bars are 95 %."
    )


def _baselines(section: Section, material: Material, key: str) -> None:
    train_part, test = material.parts.train, few(material.parts.test)
    if not (are_for(train_part) and are_for(test)):
        section.text("Not fitted: no rows to train on, too many inputs, or sequences.")
        return
    encoder = train.load_encoder(model_of(material.directory))
    names = getattr(encoder, "names", ())
    rows = [
        {"model": b.name, **b.metrics(test.y), "what it does": b.note}
        for b in baselines(train_part, test, names=names)
    ]
    own = {k: material.metrics.get(k, "") for k in rows[0]}
    rows.insert(0, own | {"model": "this model", "what it does": ""})
    section.table(rows, "Fitted on the training part, tested on the test part")
    better = max if key != "mse" else min
    values = [row[key] for row in rows if isinstance(row.get(key), float)]
    if len(values) == len(rows) and better(values[1:]) == better(values):
        section.text("A baseline is as good as the model.", warn=True)


def _mistakes(
    section: Section, material: Material, part: Tested, names: list[str]
) -> None:
    found = worst(part, names)
    if not found:
        section.text("None: every test row is put into its class.")
    x = material.parts.test.x
    image = x.ndim == 4 and x.shape[3] in (1, 3)
    rows = []
    for mistake in found:
        inputs = np.asarray(x[mistake["row"]])
        shown: Any = material.origin.told(mistake["row"])
        if shown is None:
            shown = ", ".join(f"{v:.4g}" for v in inputs.reshape(-1)[:SHOWN])
        if image:
            alt = f"row {mistake['row']}"
            shown = {"image": figures.thumbnail(inputs), "alt": alt}
        rows.append(
            {
                "row": mistake["row"],
                "truth": mistake["truth"],
                "predicted": mistake["guess"],
                "belief in the truth": mistake["belief"],
                "belief in the prediction": mistake["certainty"],
                "input": shown,
            }
        )
    section.table(rows, "The test rows whose truth the model believes least")


def values_of(material: Material) -> Any:
    """Return targets and predictions of a model of values; None of one of text."""
    test = material.parts.test
    if "text" in material.notes or test.y.dtype.kind != "f":
        return None
    predicted = train.predict(material.model, test.x)
    if predicted.size != test.y.size:
        return None
    return test.y, predicted.reshape(test.y.shape)


def _values(page: Page, material: Material) -> None:
    """Add what is said of a model of values or of text."""
    numbers = {k: v for k, v in material.metrics.items() if isinstance(v, float)}
    known = values_of(material)
    found = {} if known is None else value_intervals(*known)
    rows = [
        {"metric": k, "value": v, "from": found[k].low, "to": found[k].high}
        if k in found
        else {"metric": k, "value": v, "from": "", "to": ""}
        for k, v in numbers.items()
    ]
    page.headline = [
        {
            "name": row["metric"],
            "value": f"{row['value']:.4g}",
            "note": f"{row['from']:.4g} to {row['to']:.4g}"
            if row["metric"] in found
            else "on the test part",
        }
        for row in rows[:3]
    ]
    section = page.section("Metrics")
    section.table(rows, "On the test part, with 95 % bootstrap intervals")
    if known is not None:
        section.pictures((figures.values(*known), "On the test part."))
    if "text" not in material.notes:
        _baselines(page.section("Baselines"), material, "mse")


def _environment(section: Section, record: Mapping[str, Any]) -> None:
    rows = {**record.get("versions", {})}
    rows |= {k: record.get(k) for k in ("platform", "processor", "started", "ended")}
    for blas in record.get("blas") or []:
        rows["BLAS"] = " ".join(map(str, blas.values()))
    section.table([{"what": k, "value": str(v)} for k, v in rows.items()])


def _again(section: Section, material: Material) -> None:
    name = f"{re.sub(r'[^A-Za-z0-9_.-]', '-', material.record['name'])}-again"
    section.text(
        f"The recipe below, kept as {name}.toml, and its seed decide all that is drawn:"
        " on the same kind of machine, with these versions and as many threads, the"
        " data whose sha256 stands above give the same model, to the bit."
    )
    section.code(
        f"sillar train {name}.toml --out {name}\n"
        f"cmp {name}/{MODEL} {shlex.quote(str(material.directory / MODEL))}"
    )
    section.code(written(material.record["recipe"]))
