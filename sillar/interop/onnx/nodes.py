"""How each primitive is written in ONNX: one node, or a few."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sillar.errors import ConfigError
from sillar.interop.onnx.writer import Traced, Writer

Form = Callable[[Writer, Traced], str | None]
FORMS: dict[str, Form] = {}

ELEMENTWISE = {
    **{"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div"},
    **{"power": "Pow", "maximum": "Max", "minimum": "Min", "where": "Where"},
    **{"greater": "Greater", "greater_equal": "GreaterOrEqual"},
    **{"less": "Less", "less_equal": "LessOrEqual", "equal": "Equal"},
    **{"exp": "Exp", "log": "Log", "sqrt": "Sqrt", "erf": "Erf", "tanh": "Tanh"},
    **{"sigmoid": "Sigmoid", "relu": "Relu", "softplus": "Softplus"},
    **{"absolute": "Abs", "negative": "Neg", "sign": "Sign"},
    **{"sin": "Sin", "cos": "Cos"},
}
TRUTHS = {"multiply": "And", "minimum": "And", "add": "Or", "maximum": "Or"}
FAR = 2**31 - 1  # further than any axis is long


def form(*names: str) -> Callable[[Form], Form]:
    """Enter a function as the form of these primitives."""

    def enter(function: Form) -> Form:
        FORMS.update(dict.fromkeys(names, function))
        return function

    return enter


def write(writer: Writer, call: Traced) -> None:
    """Write a call; what depends on constants alone is computed now."""
    writer.dtypes[call.output] = call.dtype
    arrays = [
        i if isinstance(i, tuple) else writer.constants.get(i) for i in call.inputs
    ]
    if min(call.shape, default=0) >= 0 and all(a is not None for a in arrays):
        values = [a[0] if isinstance(a, tuple) else a for a in arrays]
        writer.constants[call.output] = np.asarray(call.forward(*values))
        return
    if call.name not in FORMS:
        raise ConfigError(
            f"ONNX: the primitive {call.name!r} has no form there; those that have are"
            f" {', '.join(sorted(FORMS))}"
        )
    name = FORMS[call.name](writer, call)
    if name is not None:
        writer.last[call.output] = name


@form(*ELEMENTWISE, "not_equal", "expm1", "log1p", "normal_cdf", "normal_pdf")
def elementwise(writer: Writer, call: Traced) -> str | None:
    """Write it for channels first if all its images are there in that order."""
    dtype = _common(writer, call)
    places = {
        i for i in call.inputs if not isinstance(i, tuple)
    } - writer.constants.keys()
    turned = places <= writer.first.keys() and not places & writer.last.keys()
    if places and turned and all(_fits(writer, i) for i in call.inputs):
        names = [_turned(writer, i, dtype) for i in call.inputs]
        writer.first[call.output] = _compute(writer, call.name, names, call.dtype)
        return None
    wanted: list[Any] = [dtype] * len(call.inputs)
    if call.name == "where":
        wanted[0] = np.bool_
    pairs = zip(call.inputs, wanted, strict=True)
    names = [writer.value(i, t) for i, t in pairs]
    return _compute(writer, call.name, names, call.dtype)


def _common(writer: Writer, call: Traced) -> Any:
    """Return the type in which operands meet."""
    if np.dtype(call.dtype).kind != "b":
        return call.dtype
    arrays = [i for i in call.inputs if not isinstance(i, tuple)]
    kinds = [
        writer.constants[i].dtype if i in writer.constants else writer.dtypes[i]
        for i in arrays
    ]
    return np.result_type(*kinds)


def _fits(writer: Writer, i: Any) -> bool:
    """Say whether an operand can stand beside images with channels first."""
    return isinstance(i, tuple) or i in writer.first or writer.constants[i].ndim <= 1


def _turned(writer: Writer, i: Any, dtype: Any) -> str:
    if isinstance(i, tuple) or i in writer.first:
        return writer.first[i] if i in writer.first else writer.value(i, dtype)
    array = writer.constants[i]
    return writer.constant(array.reshape(-1, 1, 1) if array.ndim else array, dtype)


def _compute(writer: Writer, name: str, x: list[str], dtype: Any) -> str:
    def number(value: float) -> str:
        return writer.constant(value, dtype)

    if np.dtype(dtype).kind == "b" and name in TRUTHS:
        return writer.add(TRUTHS[name], *x)
    if name in ELEMENTWISE:
        return writer.add(ELEMENTWISE[name], *x)
    if name == "not_equal":
        return writer.add("Not", writer.add("Equal", *x))
    if name == "expm1":
        return writer.add("Sub", writer.add("Exp", *x), number(1))
    if name == "log1p":
        return writer.add("Log", writer.add("Add", *x, number(1)))
    if name == "normal_cdf":
        erf = writer.add("Erf", writer.add("Mul", *x, number(math.sqrt(0.5))))
        return writer.add("Mul", writer.add("Add", erf, number(1)), number(0.5))
    square = writer.add("Mul", writer.add("Mul", x[0], x[0]), number(-0.5))
    return writer.add(
        "Mul", writer.add("Exp", square), number(1 / math.sqrt(2 * math.pi))
    )


@form("matmul")
def matmul(writer: Writer, call: Traced) -> str:
    """Write a product of matrices."""
    return writer.add("MatMul", *(writer.value(i, call.dtype) for i in call.inputs))


@form("einsum")
def einsum(writer: Writer, call: Traced) -> str:
    """Write an Einstein sum."""
    names = [writer.value(i, call.dtype) for i in call.inputs]
    return writer.add("Einsum", *names, equation=call.static["subscripts"])


@form("reshape")
def reshape(writer: Writer, call: Traced) -> str:
    """Write a shape whose one open size goes with the batch."""
    x, open_ = writer.value(call.inputs[0]), sum(n < 0 for n in call.shape)
    if open_ > 1:
        return writer.add("Reshape", x, writer.sizes(call.shape))
    return writer.add("Reshape", x, writer.integers([max(n, -1) for n in call.shape]))


@form("transpose")
def transpose(writer: Writer, call: Traced) -> str:
    """Write a permutation of axes."""
    axes = call.static.get("axes") or range(len(call.shape))[::-1]
    return writer.add("Transpose", writer.value(call.inputs[0]), perm=[*axes])


@form("broadcast_to")
def broadcast_to(writer: Writer, call: Traced) -> str:
    """Write a value at a larger shape."""
    return writer.add("Expand", writer.value(call.inputs[0]), writer.sizes(call.shape))


@form("astype")
def astype(writer: Writer, call: Traced) -> str:
    """Write a change of type."""
    return writer.value(call.inputs[0], call.dtype)


@form("concat")
def concat(writer: Writer, call: Traced) -> str:
    """Write values one after another along an axis."""
    names = [writer.value(i, call.dtype) for i in call.inputs]
    return writer.add("Concat", *names, axis=call.static.get("axis", 0))


@form("sum", "max", "min")
def reduce(writer: Writer, call: Traced) -> str | None:
    """Reduce over all axes or some; over images where they lie."""
    i, rank = call.inputs[0], len(call.shapes[0])
    keep = int(call.static.get("keepdims", False))
    axes = _axes(call.static.get("axis"), rank)
    images = i in writer.first and i not in writer.last
    if images and axes == [1, 2]:
        found = _reduce(writer, call.name, writer.first[i], [2, 3], keep)
        if keep:
            writer.first[call.output] = found
        return None if keep else found
    return _reduce(writer, call.name, writer.value(i), axes, keep)


def _reduce(writer: Writer, name: str, x: str, axes: list[int], keep: int) -> str:
    if name == "sum":
        return writer.add("ReduceSum", x, writer.integers(axes), keepdims=keep)
    op = {"max": "ReduceMax", "min": "ReduceMin"}[name]
    return writer.add(op, x, axes=axes, keepdims=keep)


def _axes(axis: Any, rank: int) -> list[int]:
    given = (
        range(rank) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    )
    return sorted(k % rank for k in given)


@form("logsumexp")
def logsumexp(writer: Writer, call: Traced) -> str:
    """Subtract the largest, as the primitive does."""
    x, axes = (
        writer.value(call.inputs[0]),
        _axes(call.static["axis"], len(call.shapes[0])),
    )
    peak = _reduce(writer, "max", x, axes, 1)
    powers = writer.add("Exp", writer.add("Sub", x, peak))
    total = writer.add("Log", _reduce(writer, "sum", powers, axes, 1))
    found = writer.add("Add", total, peak)
    if call.static.get("keepdims", False):
        return found
    return writer.add("Squeeze", found, writer.integers(axes))


@form("argmax")
def argmax(writer: Writer, call: Traced) -> str:
    """Write where the first largest value lies."""
    x, axis = writer.value(call.inputs[0]), call.static.get("axis")
    if axis is None:
        x, axis = writer.add("Reshape", x, writer.integers([-1])), 0
    return writer.add("ArgMax", x, axis=axis, keepdims=0)


@form("cumsum")
def cumsum(writer: Writer, call: Traced) -> str:
    """Write running sums."""
    axis = writer.integer(call.static.get("axis", 0))
    return writer.add("CumSum", writer.value(call.inputs[0]), axis)


@form("pad")
def pad(writer: Writer, call: Traced) -> str | None:
    """Pad images where they lie."""
    i, widths = call.inputs[0], call.static["widths"]
    value = writer.constant(call.static.get("value", 0.0), call.dtype)
    turned = i in writer.first and i not in writer.last
    order = (0, 3, 1, 2) if turned else range(len(widths))
    pads = writer.integers([widths[k][side] for side in (0, 1) for k in order])
    if turned:
        writer.first[call.output] = writer.add("Pad", writer.first[i], pads, value)
        return None
    return writer.add("Pad", writer.value(i), pads, value)


@form("getitem")
def getitem(writer: Writer, call: Traced) -> str:
    """Write an index of slices, whole numbers and new axes, or one array for rows."""
    template = call.static["template"]
    if template == ("array",):
        rows = writer.value(call.inputs[1], np.int64)
        return writer.add("Gather", writer.value(call.inputs[0]), rows, axis=0)
    if any(part == "array" for part in template if isinstance(part, str)):
        raise ConfigError(
            "ONNX: an index of several arrays has no form there; rows by one array have"
        )
    return _basic(writer, writer.value(call.inputs[0]), template, len(call.shapes[0]))


def _basic(writer: Writer, x: str, template: tuple[Any, ...], rank: int) -> str:
    taken = sum(part is not None and part is not ... for part in template)
    fill = (slice(None),) * (rank - taken)
    place = template.index(...) if ... in template else len(template)
    parts = [*template[:place], *fill, *template[place + 1 :]]
    axis, cuts, points, new = 0, [], [], []
    for k, part in enumerate(parts):
        if part is None:
            new.append(k - len(points))
            continue
        if isinstance(part, slice):
            cuts += [(axis, part)] if part != slice(None) else []
        else:
            points.append((axis, int(part)))
        axis += 1
    if cuts:
        steps = [part.step or 1 for _, part in cuts]
        starts = [_start(part) for _, part in cuts]
        stops = [_stop(part) for _, part in cuts]
        axes = [axis for axis, _ in cuts]
        x = writer.add("Slice", x, *map(writer.integers, (starts, stops, axes, steps)))
    for axis, point in points[::-1]:
        x = writer.add(
            "Gather", x, writer.constant(np.array(point, np.int64)), axis=axis
        )
    return writer.add("Unsqueeze", x, writer.integers(new)) if new else x


def _start(part: slice) -> int:
    backwards = (part.step or 1) < 0
    return int(part.start) if part.start is not None else (FAR if backwards else 0)


def _stop(part: slice) -> int:
    backwards = (part.step or 1) < 0
    return int(part.stop) if part.stop is not None else (-FAR if backwards else FAR)
