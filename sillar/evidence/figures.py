"""The pictures of a report: matplotlib, as SVG that takes the page's own colours."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sillar.core.rng import Rng
from sillar.errors import DependencyError
from sillar.evidence.calibration import calibration_curve
from sillar.evidence.findings import Tested
from sillar.train.metrics import precision_recall_curve, roc_curve

INK = "#0a0b0c"  # becomes the colour of the page's text
HUES = ("#2f6fb5", "#c8571b", "#3a8a4d", "#8d4fa8", "#a88a1d", "#b33a4e", "#2a8f93")
DRAWS = 100  # of a band
GRID = np.linspace(0, 1, 101)


def _axes(title: str, x: str, y: str) -> tuple[Any, Any]:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise DependencyError(
            "report: pictures need matplotlib: pip install 'sillar[report]'"
        ) from None
    style = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}
    style |= {f"{part}.color": INK for part in ("text", "xtick", "ytick")}
    style |= {"axes.labelcolor": INK, "axes.edgecolor": INK, "svg.hashsalt": title}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.patch.set_alpha(0)
    figure.patch.set_alpha(0)
    figure.title = title
    return figure, axes


def _svg(figure: Any) -> str:
    """Return the figure as an element for a page, with ids of its own."""
    import matplotlib

    buffer = io.StringIO()
    options = {"svg.fonttype": "none", "svg.hashsalt": figure.title}
    with matplotlib.rc_context(options), warnings.catch_warnings():
        # what counts are the fonts of whoever reads the page
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    slug = re.sub(r"\W+", "-", figure.title.lower())
    text = re.sub(r'\bid="', f'id="{slug}-', text)
    text = re.sub(r"url\(#", f"url(#{slug}-", text)
    text = re.sub(r'href="#', f'href="#{slug}-', text)
    head, rest = text.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{figure.title}">{rest}'


History = Sequence[Mapping[str, float]]


def learning(history: History, metric: str) -> str:
    """Return the picture of a metric and its val_ companion over the epochs."""
    return _over_epochs(metric, {n: (history, n) for n in (metric, f"val_{metric}")})


def side_by_side(histories: Mapping[str, History], metric: str) -> str:
    """Return the picture of one metric of several runs over the epochs."""
    return _over_epochs(metric, {name: (h, metric) for name, h in histories.items()})


def _over_epochs(metric: str, lines: Mapping[str, tuple[History, str]]) -> str:
    figure, axes = _axes(f"{metric} by epoch", "epoch", metric)
    for place, (label, (history, name)) in enumerate(lines.items()):
        rows = [(r["epoch"], r[name]) for r in history if r.get(name) is not None]
        if rows:
            x, y = zip(*rows, strict=True)
            mark = "o" if len(rows) < 30 else None
            hue = HUES[place % len(HUES)]
            axes.plot(x, y, color=hue, marker=mark, markersize=3.5, label=label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, labelcolor=INK)
    return _svg(figure)


def confusion(matrix: Any, classes: Sequence[str]) -> str:
    """Return the confusion matrix, rows divided by how often the class is true."""
    figure, axes = _axes("confusion matrix", "predicted", "true")
    counts = np.asarray(matrix, float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    names = [name if len(name) < 13 else name[:11] + "…" for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    if len(names) <= 12:
        for (row, column), share in np.ndenumerate(shares):
            axes.text(
                *(column, row, f"{counts[row, column]:.0f}"),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share > 0.5 else "#15202b",
            )
    return _svg(figure)


def roc(part: Tested, classes: Sequence[str], *, seed: int = 0) -> str:
    """Return the ROC curves of each class against the rest, with 95 % bands."""
    figure, axes = _axes("ROC curve", "false-positive rate", "true-positive rate")
    axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")

    _bands(axes, part, classes, lambda y, s: roc_curve(y, s)[:2], seed)
    return _svg(figure)


def precision_recall(part: Tested, classes: Sequence[str], *, seed: int = 0) -> str:
    """Return the precision-recall curves of each class, with 95 % bands."""
    figure, axes = _axes("precision-recall curve", "recall", "precision")

    def curve(y: Any, s: Any) -> Any:
        precision, recall, _ = precision_recall_curve(y, s)
        return recall[::-1], precision[::-1]

    _bands(axes, part, classes, curve, seed)
    axes.set_ylim(0, 1.03)
    return _svg(figure)


def calibration(part: Tested, *, seed: int = 0) -> str:
    """Return how often the likeliest class is right, by how sure the model is."""
    title = "calibration curve"
    figure, axes = _axes(title, "predicted probability", "observed share")
    axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
    y, p = certainty(part)
    curve = calibration_curve(y, p)
    low, high = curve.interval()
    error = np.maximum([curve.observed - low, high - curve.observed], 0)  # of rounding
    axes.errorbar(
        *(curve.predicted, curve.observed, error),
        color=HUES[0],
        marker="o",
        markersize=4,
        capsize=2,
    )
    axes.set_ylim(-0.03, 1.03)
    return _svg(figure)


def certainty(part: Tested) -> tuple[Any, Any]:
    """Return truths and probabilities: of class 1, or that the likeliest is right."""
    if part.probabilities.shape[1] == 2:
        return part.target, part.probabilities[:, 1]
    return (part.guesses == part.target).astype(int), part.probabilities.max(axis=1)


def values(target: Any, predicted: Any) -> str:
    """Return predicted against true values."""
    figure, axes = _axes("predicted and true values", "true", "predicted")
    x, y = np.asarray(target).reshape(-1), np.asarray(predicted).reshape(-1)
    step = max(1, len(x) // 2000)
    axes.plot(x[::step], y[::step], ".", color=HUES[0], alpha=0.5, markersize=4)
    ends = [min(x.min(), y.min()), max(x.max(), y.max())]
    axes.plot(ends, ends, color=INK, lw=0.8, ls=":")
    return _svg(figure)


def _bands(
    axes: Any, part: Tested, classes: Sequence[str], curve: Any, seed: int
) -> None:
    """Draw the curve of class 1, or those of the largest classes, with bands."""
    sizes = np.bincount(part.target, minlength=len(classes))
    chosen = [1] if len(classes) == 2 else np.argsort(-sizes)[: len(HUES)].tolist()
    for hue, c in zip(HUES, sorted(chosen), strict=False):
        y, s = (part.target == c).astype(int), part.probabilities[:, c]
        if not 0 < y.sum() < len(y):
            continue
        axes.plot(*curve(y, s), color=hue, lw=1.5, label=str(classes[c]))
        draws = [
            np.interp(GRID, *curve(y[rows], s[rows])) for rows in _resampled(y, seed)
        ]
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        alpha = 0.2 if len(chosen) == 1 else 0.12
        axes.fill_between(GRID, low, high, color=hue, alpha=alpha, lw=0)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)


def _resampled(y: Any, seed: int) -> Any:
    sides = [np.flatnonzero(y == 0), np.flatnonzero(y == 1)]
    for draw in range(DRAWS):
        rng = Rng(seed).split("band", draw).generator()
        yield np.concatenate(
            [side[rng.integers(0, len(side), len(side))] for side in sides]
        )


def thumbnail(image: Any) -> str:
    """Return an image (h, w, 1 or 3) as a data address of a PNG."""
    import base64

    from matplotlib import image as writer

    x = np.asarray(image, float)
    span = x.max() - x.min()
    x = (x - x.min()) / (span or 1.0)
    buffer = io.BytesIO()
    if x.shape[-1] == 1:
        writer.imsave(buffer, x[..., 0], cmap="gray", format="png")
    else:
        writer.imsave(buffer, x, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
