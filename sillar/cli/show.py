"""What people see: messages on standard error, tables and JSON on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from sillar.train.callbacks import json_text

ROWS = 200  # of a table; JSON has them all
MATRIX = 16  # classes whose confusion matrix fits a terminal
SUMMARY = {
    "accuracy": "accuracy",
    "loss": "loss",
    "bits_per_character": "bits per character",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "r2": "R²",
}
AVERAGED = ("precision", "recall", "f1")


def messages() -> Console:
    """Return where messages go: standard error."""
    return Console(stderr=True, highlight=False)


def put(*parts: RenderableType) -> None:
    """Print results on standard output, with an empty line between them."""
    console = Console(highlight=False)
    for i, part in enumerate(parts):
        if i:
            console.print()
        console.print(part, soft_wrap=isinstance(part, Text))  # a path stays whole


def say(message: str, style: str = "") -> None:
    """Print one line for people on standard error."""
    messages().print(Text(clean(message), style=style), soft_wrap=True)


def fail(message: str) -> None:
    """Print an error on standard error."""
    text = Text.assemble(("error: ", "bold red"), clean(message))
    messages().print(text, soft_wrap=True)


def clean(value: Any) -> str:
    """Return text that cannot act on a terminal, whatever file it came from."""
    text = str(value).replace("\n", " ")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def as_json(result: Mapping[str, Any]) -> None:
    """Print one JSON object on one line."""
    print(json_text(result))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Group:
    """Return a table whose first column is text and whose others are numbers."""
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for i, name in enumerate(columns):
        found.add_column(Text(name), justify="right" if i else "left", overflow="fold")
    for row in rows[:ROWS]:
        found.add_row(*(part if isinstance(part, Text) else cell(part) for part in row))
    parts: list[RenderableType] = [Text(title, style="bold"), found]
    if len(rows) > ROWS:
        parts.append(f"and {len(rows) - ROWS:,} more: --json has them all")
    return Group(*parts)


def pairs(title: str, rows: Iterable[tuple[str, Any]]) -> Group:
    """Return a table of names and what they are."""
    found = Table(box=None, show_header=False, pad_edge=False)
    found.add_column(style="cyan", no_wrap=True)
    found.add_column(overflow="fold")
    for name, value in rows:
        found.add_row(Text(clean(name)), cell(value))
    return Group(Text(title, style="bold"), found)


def cell(value: Any) -> Text:
    """Return a value as a cell shows it: never as markup."""
    if value is None:
        return Text("–")
    if isinstance(value, float):
        small = 0 < abs(value) < 1e-3 or abs(value) >= 1e5
        return Text(f"{value:.3g}" if small else f"{value:.4f}")
    if isinstance(value, int) and not isinstance(value, bool):
        return Text(f"{value:,}")
    if isinstance(value, list | tuple):
        return Text(clean(" × ".join(map(str, value))))
    return Text(clean(value))


def summary(metrics: Mapping[str, Any], title: str) -> Group:
    """Return the table of the metrics that are one number for all examples."""
    first = metrics.get("headline", "accuracy")
    keys = sorted(SUMMARY, key=lambda key: key != first)  # the others in their order
    rows = [(SUMMARY[key], metrics[key]) for key in keys if key in metrics]
    for name in AVERAGED:
        for average in ("macro", "weighted"):
            if (key := f"{name}_{average}") in metrics:
                rows.append((f"{name}, {average}", metrics[key]))
    if "samples" in metrics:
        rows.append(("examples", metrics["samples"]))
    return table(title, ("metric", "value"), rows)


def beside(metrics: Mapping[str, Any]) -> list[RenderableType]:
    """Return the table of baselines, and a word where accuracy says little."""
    others = metrics.get("baselines")
    if not others:
        return []
    keys = [key for key in (*SUMMARY, "f1_macro") if key in others[0]]
    own = {"model": "this model", **{key: metrics.get(key, "") for key in keys}}
    rows = [
        [row["model"], *(row.get(key, "") for key in keys)] for row in [own, *others]
    ]
    names = [{**SUMMARY, "f1_macro": "f1, macro"}[key] for key in keys]
    found: list[RenderableType] = [table("beside baselines", ("model", *names), rows)]
    if metrics.get("headline", "accuracy") != "accuracy":
        share = 100 * metrics["rarest"]
        text = f"The rarest class has {share:.1f} % of the rows: accuracy says little."
        found.append(Text(text, "yellow"))
    return found


def report(metrics: Mapping[str, Any], title: str) -> list[RenderableType]:
    """Return all tables: summary, baselines, classes, and the confusion matrix."""
    tables: list[RenderableType] = [summary(metrics, title), *beside(metrics)]
    if classes := metrics.get("per_class"):
        columns = ("class", *AVERAGED, "support")
        rows = [
            [_visible(entry["class"]), *(entry[name] for name in columns[1:])]
            for entry in classes
        ]
        tables.append(table("by class", columns, rows))
        names = [clean(entry["class"])[:8] for entry in classes]
        if len(names) <= MATRIX:
            tables.append(_matrix(names, metrics["confusion_matrix"]))
    return tables


def _visible(name: str) -> str:
    """Return the name of a class, in quotes if it is white space."""
    return name if name.strip() else repr(name)


def _matrix(names: list[str], counts: list[list[int]]) -> Group:
    """Return the confusion matrix: what is right bold, what is wrong red."""
    rows = []
    for i, line in enumerate(counts):
        styles = ("bold green" if i == j else "red" for j in range(len(line)))
        cells = [
            Text(f"{n:,}", style) if n else Text("·", "dim")
            for n, style in zip(line, styles, strict=True)
        ]
        rows.append([names[i], *cells])
    return table("true class (row) by predicted class", ("", *names), rows)


def run_line(directory: Path) -> Text:
    """Return the line that says where a run lies."""
    return Text.assemble(("run  ", "cyan"), clean(directory))
