"""`diagnose`: how large activations and gradients are in each layer at step 0."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sillar.backends import backend_of
from sillar.core.dtypes import is_floating
from sillar.core.grad import grad, recorded
from sillar.core.listen import Listener
from sillar.core.rng import Rng
from sillar.core.tape import lift
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError
from sillar.nn import MSE, CrossEntropy, Layer
from sillar.train.evaluate import compute_loss
from sillar.watch.findings import Finding, Row, findings
from sillar.watch.graph import kind_of, norm
from sillar.watch.where import Places, named_layers

SHOWN = 40  # rows that are printed; the middle is left out of longer tables


class Diagnosis(NamedTuple):
    """One row for each layer that computes, and what was found wrong.

    Printed, it is a table of at most 80 columns.
    """

    rows: Sequence[Row]
    findings: Sequence[Finding]
    loss: float

    @property
    def ok(self) -> bool:
        """Say whether nothing was found."""
        return not self.findings

    def __str__(self) -> str:
        wrong = {f.layer for f in self.findings}
        lines = [f"{'layer':24}  {'kind':24}  {'output rms':>10}  {'gradient rms':>12}"]
        for i, row in enumerate(self.rows):
            mark = "!" if row.layer in wrong else ""
            if mark or min(i, len(self.rows) - 1 - i) < SHOWN // 2:
                lines.append(f"{row}  {mark}".rstrip())
            elif lines[-1] != "…":
                lines.append("…")
        for finding in self.findings:
            lines += ["", *textwrap.wrap(str(finding), 80, subsequent_indent="  ")]
        if self.ok:
            lines += ["", f"Nothing is wrong in {len(self.rows)} layers at this step."]
        return "\n".join(lines)


class _Last(Listener):
    """Keeps the last output of each layer, and what its activations did."""

    def __init__(self, model: Layer) -> None:
        self.places = Places(model)
        self.kinds = {}
        for path, layer in named_layers(model):
            self.kinds[path or type(layer).__name__] = kind_of(layer)
        self.outputs: dict[str, Tensor] = {}
        self.shares: dict[str, dict[str, float]] = {}

    def after(self, primitive, args, arrays, static, out):
        """Take note of the output, and of units that are dead or saturated."""
        layer = self.places.here().layer
        if layer not in self.kinds:
            return
        self.outputs.pop(layer, None)  # a later call comes later in the table
        self.outputs[layer] = out
        share = _SHARES.get(primitive.name)
        if share is not None and out.size:
            known = self.shares.setdefault(layer, {})
            values = backend_of(out.data).to_numpy(out.data)
            known[primitive.name] = max(known.get(primitive.name, 0.0), share(values))


def diagnose(
    model: Layer, batch: Any, loss: Callable[..., Tensor] | None = None
) -> Diagnosis:
    """Return how large outputs and gradients are in each layer, and what is wrong.

    `batch` is inputs x, or (x, y). The loss is cross-entropy for integers y and the
    mean squared error for others, unless given; without y it is the product of the
    outputs with a random normal vector. One step forwards and backwards is done in
    training, as `fit` would, and the model is left as it was, to the bit.
    """
    x, y = _inputs(batch)
    buffers = [(buffer, buffer.data) for buffer in model.buffers().values()]
    copies = [d if d is None else backend_of(d).copy(d) for _, d in buffers]
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return _diagnosed(model, x, y, loss)
    finally:
        for (buffer, data), copy in zip(buffers, copies, strict=True):
            buffer.data = data
            if copy is not None:
                buffer.assign(copy)


def _diagnosed(model: Layer, x: Any, y: Any, loss: Any) -> Diagnosis:
    x = lift(x)
    with _Last(model) as heard:
        out = model(x, rng=Rng(0))
    if not heard.outputs:
        raise ConfigError(f"diagnose: {type(model).__name__} computes nothing")
    value = _loss(out, y, loss)
    made = {id(t.data): t for t in recorded([value])}
    outputs = [made.get(id(t.data), t) for t in heard.outputs.values()]
    tracked = [t for t in outputs if t.requires_grad]
    gradients = dict(zip(map(id, tracked), grad(value, tracked), strict=True))
    rows = []
    for layer, t in zip(heard.outputs, outputs, strict=True):
        g = gradients.get(id(t))
        rows.append(
            Row(
                layer,
                heard.kinds[layer],
                t.shape,
                _rms(t),
                None if g is None else _rms(g),
                heard.shares.get(layer, {}),
                *_spreads(backend_of(t.data).to_numpy(t.data)),
            )
        )
    size = _rms(x) if is_floating(x.data) else 1.0
    return Diagnosis(rows, list(findings(rows, size or 1.0)), value.item())


def _inputs(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, tuple | list):
        return batch, None
    if len(batch) != 2:
        raise ConfigError(
            f"diagnose: expected a batch x or (x, y), got {len(batch)} parts"
        )
    return batch[0], batch[1]


def _loss(out: Tensor, y: Any, loss: Any) -> Tensor:
    if y is None:
        v = Rng(0).split("diagnose").normal(out.shape, str(out.dtype))
        return (out * v).sum()
    target = y.numpy() if isinstance(y, Tensor) else np.asarray(y)
    if loss is None:
        loss = CrossEntropy() if target.dtype.kind in "iu" else MSE()
    return compute_loss(loss, out, target)


def _rms(x: Tensor) -> float:
    return norm(x.numpy()) / math.sqrt(max(1, x.size))


def _dead(values: Any) -> float:
    """Return the share of units, along the last axis, that are 0 for all examples."""
    return float(np.mean(np.max(values, axis=tuple(range(values.ndim - 1))) <= 0))


_SHARES: dict[str, Callable[[Any], float]] = {
    "relu": _dead,
    "sigmoid": lambda values: float(np.mean(np.abs(values - 0.5) > 0.49)),
    "tanh": lambda values: float(np.mean(np.abs(values) > 0.99)),
}


def _spreads(values: Any) -> tuple[float, float]:
    """Return how far examples differ, and units, relative to the size of both."""
    found = []
    for axis in (0, -1):
        if not values.ndim or values.shape[axis] < 2 or not values.size:
            found.append(math.nan)
            continue
        wide = values.astype(np.float64)
        size = norm(wide)
        found.append(norm(wide - wide.mean(axis, keepdims=True)) / size if size else 0)
    return found[0], found[1]
