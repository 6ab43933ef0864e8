"""What the matrix is about: every primitive, layer and loss, and arguments by shape."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from sillar import nn
from sillar.core import ops
from sillar.core.attention import attention, attention_slope
from sillar.core.normalization import channel_squares
from sillar.core.rng import Rng
from sillar.core.tape import all_primitives
from sillar.core.tensor import Tensor
from sillar.nn.architecture import LAYERS
from sillar.testing.cases import kernels, layers, losses, primitives
from sillar.testing.gradients import is_variable
from sillar.testing.layers import TRAINING, Trial
from sillar.testing.orders import Make

SHAPES = ("plain", "broadcast", "odd", "empty")

# Primitives of several arrays, one of which may be stretched along the others.
STRETCHING = {
    *(*primitives.BINARY, ops.where, ops.matmul, attention, attention_slope),
    *(channel_squares, *kernels.SAVED),
}
WINDOWS = "the axes of images and windows are fixed"
LOGITS = "gradients and labels have the axes of the logits"
SEQUENCES = "the axes of sequences and weights are fixed"
NOT_STRETCHED = {
    "concat": "parts are joined, not stretched",
    "pack": "parts are joined, not stretched",
    "einsum": "letters name the axes",
    **dict.fromkeys(("conv", "conv_input", "conv_weight"), WINDOWS),
    **dict.fromkeys(("max_pool_at", "max_unpool"), WINDOWS),
    "cross_entropy_input": LOGITS,
    **dict.fromkeys(("recurrent", "recurrent_input", "recurrent_weight"), SEQUENCES),
}
ALONE = "one array: nothing to stretch"


class Case(NamedTuple):
    """Arguments to try: f and its variables in either type, at the same point.

    What draws numbers draws others in float32. What may refuse may raise ShapeError.
    """

    make: Make
    draws: bool = False
    may_refuse: bool = False


class Subject(NamedTuple):
    """A primitive, layer or loss: its cases by shape, or why a shape has none."""

    kind: str
    name: str
    cases: dict[str, list[Case]]
    reasons: dict[str, str]


def subjects() -> Iterator[Subject]:
    """Yield everything that the library has; what has no case has no reason either."""
    own = {op for op in all_primitives() if op.forward.__module__.startswith("sillar.")}
    for op in sorted(own, key=lambda op: op.name):
        yield _of_primitive(op)
    for name in sorted({*LAYERS, *_public(nn.Layer)}):
        yield _of_layer(name)
    for name in sorted(_public(nn.Loss)):
        yield _of_loss(name)


def _public(base: type) -> list[str]:
    """Return the names of the public classes under `base` that can be made."""
    found = ((name, getattr(nn, name)) for name in nn.__all__)
    return [
        name
        for name, kind in found
        if inspect.isclass(kind) and issubclass(kind, base)
        if not inspect.isabstract(kind)
    ]


def _of_primitive(op: Any) -> Subject:
    if not op.differentiable:
        why = primitives.WITHOUT_GRADIENT.get(op)
        reasons = dict.fromkeys(SHAPES, f"no gradient: {why}") if why else {}
        return Subject("primitive", op.name, {}, reasons)
    given = [
        case
        for case in primitives.CASES.values()
        if kernels.primitive_of(case[0]) is op
    ]
    cases: dict[str, list[Case]] = {}
    for function, args, static in given:
        shapes = _shapes(function, args)
        case = Case(partial(_primitive, function, args, static))
        for shape in shapes:
            cases.setdefault(shape, []).append(case)
        if "plain" in shapes:
            strided = [_strided(a) for a in args]
            case = Case(partial(_primitive, function, strided, static))
            cases.setdefault("odd", []).append(case)
    reasons = {"broadcast": NOT_STRETCHED[op.name]} if op.name in NOT_STRETCHED else {}
    if cases and "broadcast" not in cases and _alone(given):
        reasons = {"broadcast": ALONE}
    return Subject("primitive", op.name, cases, reasons)


def _shapes(op: Any, args: list[Any]) -> set[str]:
    """Return the kinds of shapes that the arguments of a primitive have."""
    shapes = [a.shape for a in args if isinstance(a, np.ndarray)]
    if any(0 in shape for shape in shapes):
        return {"empty"}
    found = {"odd" if any(1 in s or s == () for s in shapes) else "plain"}
    cut = -2 if op is ops.matmul else None  # the last two axes are those of a matrix
    stretched = op in STRETCHING and len({s[:cut] for s in shapes}) > 1
    return found | {"broadcast"} if stretched or op is ops.broadcast_to else found


def _of_layer(name: str) -> Subject:
    cases: dict[str, list[Case]] = {}
    for layer, inputs in layers.CASES.values():
        if type(layer).__name__ != name:
            continue
        varied = {
            "plain": [inputs],
            "broadcast": [[_stretched(inputs[0]), *inputs[1:]], *_masked(inputs)],
            "odd": [[x[:1] for x in inputs], [_strided(x) for x in inputs]],
            "empty": [[x[:0] for x in inputs]],
        }
        for rng, draws in _modes(layer, inputs):
            for shape, several in varied.items():
                cases.setdefault(shape, []).extend(
                    Case(partial(_layer, layer, x, rng), draws, shape != "plain")
                    for x in several
                )
    return Subject("layer", name, cases, {})


def _modes(layer: Any, inputs: list[Any]) -> list[tuple[Rng | None, bool]]:
    """Return inference, and training where it is different; say which draws numbers."""
    calm, first, second = (
        Trial(layer, tuple(inputs), "float64", rng)().numpy()
        for rng in (None, TRAINING, Rng(1))
    )
    inference, training = (None, False), (TRAINING, not np.array_equal(first, second))
    return [inference] if np.array_equal(calm, first) else [inference, training]


def _of_loss(name: str) -> Subject:
    cases: dict[str, list[Case]] = {}
    for loss, p, t in losses.CASES.values():
        if type(loss).__name__ != name:
            continue
        varied = {
            "plain": [(p, t)],
            "broadcast": [(_stretched(p), t)],
            "odd": [(p[:1], t[:1]), (_strided(p), _strided(t))],
            "empty": [(p[:0], t[:0])],
        }
        for shape, several in varied.items():
            made = [
                Case(partial(_loss, loss, *given), may_refuse=shape == "broadcast")
                for given in several
            ]
            cases.setdefault(shape, []).extend(made)
    return Subject("loss", name, cases, {})


def _primitive(op: Any, args: list[Any], static: dict[str, Any], dtype: str) -> Any:
    inputs = [_given(a, dtype) for a in args]
    if "dtype" in static:
        static = static | {"dtype": dtype}
    named = {f"argument {i}": x for i, x in enumerate(inputs) if is_variable(x)}
    return lambda: op(*inputs, **static), named


def _layer(layer: Any, inputs: list[Any], rng: Rng | None, dtype: str) -> Any:
    single, trial = (
        Trial(layer, tuple(inputs), kind, rng) for kind in ("float32", dtype)
    )
    for path, p in trial.layer.parameters().items():
        p.data[...] = single.layer.parameters()[path].data
    trial.inputs = [_given(x, dtype) for x in inputs]
    return trial, trial.variables


def _loss(loss: Any, prediction: Any, target: Any, dtype: str) -> Any:
    p, t = _given(prediction, dtype), _given(target, dtype)
    return lambda: loss.compute(p, t.detach()), {"the prediction": p}


def _given(value: Any, dtype: str) -> Any:
    """Return a variable for an array of floats, at the same point in either type."""
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind != "f":
        return Tensor(value)
    x = value.astype("float32").astype(dtype)
    backwards = value.ndim > 0 and value.strides[-1] < 0
    return Tensor(_strided(x) if backwards else x, requires_grad=True)


def _strided(value: Any) -> Any:
    """Return an array whose last axis runs backwards over every second cell."""
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        return value
    wide = np.zeros((*value.shape[:-1], 2 * value.shape[-1]), value.dtype)
    view = wide[..., ::-2]
    view[...] = value
    return view


def _stretched(value: Any) -> Any:
    """Return an array with a further axis, of length 2, whose parts are the same."""
    shape = (value.shape[0], 2, *value.shape[1:])
    return np.broadcast_to(value[:, None], shape)


def _masked(inputs: list[Any]) -> list[list[Any]]:
    """Return the inputs, as a list of one, if there is a mask to stretch."""
    return [inputs] if any(x.dtype == bool for x in inputs) else []


def _alone(given: list[Any]) -> bool:
    """Say whether no case has more than one array of floats."""
    floats = (
        sum(isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in args)
        for _, args, _ in given
    )
    return max(floats) < 2
