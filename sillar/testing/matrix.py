"""The matrix: every primitive, layer and loss, by precision, order and shape.

A row is one of them, with all its cases. A cell is "ok" if every case passed, or says
what went wrong, or why there is nothing to check. An empty cell would be a hole.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from sillar.core.dtypes import SCALARS
from sillar.core.grad import grad
from sillar.core.rng import Rng
from sillar.core.tensor import Tensor
from sillar.errors import DtypeError, SillarError
from sillar.nn.architecture import LAYERS
from sillar.nn.layer import Layer
from sillar.nn.layers import Dropout
from sillar.nn.losses import Loss
from sillar.testing.cases import layers, losses, primitives
from sillar.testing.cases.kernels import primitive_of
from sillar.testing.compare import cast, check_close, ones_like, variable
from sillar.testing.gradients import is_variable, passing_orders, projected
from sillar.testing.layers import MODES, Trial

ORDERS = ("first", "second", "third")
SINGLE = ("float32 first", "float32 second")
SHAPES = ("plain", "broadcast", "size 1", "empty")
COLUMNS = (*SINGLE, *(f"float64 {order}" for order in ORDERS), *SHAPES)
NEAR = {"float32 first": 1e-4, "float32 second": 1e-3}  # to float64, by the largest
UNEQUAL = "operands do not broadcast"
BY_CHECK = "batches of one and of none: check_layer"
NETWORKS = ("ConvNet", "GPT", "ResNet", "ResidualBlock")
OF_LAYERS = "a network: see its layers"
BY_CHECK_OF_LOSSES = "an empty batch: check_loss"


class Row(NamedTuple):
    """One subject: its kind, its name, how many cases, and its cells by column."""

    kind: str
    name: str
    cases: int
    cells: dict[str, str]

    @property
    def whole(self) -> bool:
        """Say whether no cell is empty and none tells of a failure."""
        return all(self.cells.get(c) and self.cells[c][0] != "!" for c in COLUMNS)


class Case(NamedTuple):
    """A function of a precision that gives f and its variables; the shapes it tries.

    What draws numbers draws others in float32, and is not held against float64.
    """

    make: Callable[[str], tuple[Callable[[], Tensor], Mapping[str, Tensor]]]
    shapes: set[str]
    orders: int = len(ORDERS)
    draws: bool = False


def subjects() -> dict[tuple[str, str], list[Case]]:
    """Return the cases of everything that has a derivative, by kind and name."""
    found: dict[tuple[str, str], list[Case]] = {}
    for op, args, static in primitives.CASES.values():
        made = partial(_primitive, op, args, static)
        name = primitive_of(op).name
        case = Case(made, _shapes(args))
        found.setdefault(("primitive", name), []).append(case)
    for layer, inputs in layers.CASES.values():
        name = type(layer).__name__
        orders = 2 if name in NETWORKS else len(ORDERS)
        for mode in MODES.values():
            made = partial(_layer, layer, inputs, mode)
            drawn = mode is not None and _draws(layer)
            case = Case(made, {"plain"}, orders, drawn)
            found.setdefault(("layer", name), []).append(case)
    for loss, prediction, target in losses.CASES.values():
        case = Case(partial(_loss, loss, prediction, target), {"plain"})
        found.setdefault(("loss", type(loss).__name__), []).append(case)
    return found


def missing() -> list[str]:
    """Return what the library has and the matrix has not."""
    from sillar import nn
    from sillar.core.tape import all_primitives

    named = {name for _, name in subjects()}
    named |= {op.name for op in primitives.WITHOUT_GRADIENT}
    own = [op for op in all_primitives() if op.forward.__module__.startswith("sillar.")]
    public = [getattr(nn, name) for name in nn.__all__]
    kinds = [k for k in public if inspect.isclass(k) and issubclass(k, Loss)]
    wanted = {op.name for op in own} | set(LAYERS) | {k.__name__ for k in kinds}
    return sorted(wanted - named - {"Loss"})


def rows(only: str | None = None) -> Iterator[Row]:
    """Yield every row, those without a derivative last."""
    for (kind, name), cases in subjects().items():
        if only in (None, name):
            yield row(kind, name, cases)
    for op, reason in primitives.WITHOUT_GRADIENT.items():
        if only in (None, op.name):
            yield Row("primitive", op.name, 0, dict.fromkeys(COLUMNS, reason))
    for name in missing():
        if only in (None, name):
            yield Row("?", name, 0, {})


def row(kind: str, name: str, cases: list[Case]) -> Row:
    """Return the row of one subject."""
    cells: dict[str, str] = {}
    for case in cases:
        for column, said in _checked(case).items():
            if said == "ok":
                cells.setdefault(column, said)
            elif cells.get(column, "ok")[0] != "!":
                cells[column] = said
    if all(case.draws for case in cases):
        cells |= dict.fromkeys(SINGLE, "draws other numbers in float32")
    for shape in SHAPES:
        count = sum(shape in case.shapes for case in cases)
        cells[shape] = str(count) if count else _why_not(kind, name, shape)
    return Row(kind, name, len(cases), cells)


def _checked(case: Case) -> dict[str, str]:
    """Return the cells of one case but those of shapes."""
    double = [f"float64 {order}" for order in ORDERS]
    said: dict[str, str] = {}
    f, variables = case.make("float64")
    if not variables:
        return dict.fromkeys((*SINGLE, *double), "nothing to derive for")
    try:
        for n in passing_orders(f, variables, order=case.orders):
            said[double[n - 1]] = "ok"
    except SillarError as error:
        said[double[len(said)]] = f"! {error}"
    for column in double[: case.orders]:
        said.setdefault(column, "! not reached")
    for column in double[case.orders :]:
        said[column] = OF_LAYERS
    return said if case.draws else said | _single(case)


def _single(case: Case) -> dict[str, str]:
    """Return the cells of float32, whose gradients are held against float64's."""
    said = {}
    exact, rough = case.make("float64"), case.make("float32")
    for column, derive in zip(SINGLE, (_first, _second), strict=True):
        try:
            expected, got = derive(*exact), derive(*rough)
            for name, g in got.items():
                if g.dtype != np.float32:
                    raise DtypeError(f"{name}: expected float32, got {g.dtype}")
                check_close(name, expected[name], g, NEAR[column])
            said[column] = "ok"
        except SillarError as error:
            said[column] = f"! {error}"
    return said


def _first(f: Callable[[], Tensor], variables: Mapping[str, Tensor]) -> Any:
    y = f()
    return grad(y, dict(variables), cotangents=ones_like(y))


def _second(f: Callable[[], Tensor], variables: Mapping[str, Tensor]) -> Any:
    dtype = next(iter(variables.values())).dtype
    level = projected(f, variables, Rng(0).split("second"), dtype)
    return grad(level(), dict(variables))


def _primitive(op: Any, args: list[Any], static: dict[str, Any], dtype: str) -> Any:
    inputs = [a if type(a) in SCALARS else variable(a, dtype) for a in args]
    if "dtype" in static:
        static = static | {"dtype": dtype}
    named = {f"argument {i}": x for i, x in enumerate(inputs) if is_variable(x)}
    return lambda: op(*inputs, **static), named


def _layer(layer: Any, inputs: list[Any], rng: Rng | None, dtype: str) -> Any:
    trial, exact = (
        Trial(layer, tuple(inputs), kind, rng) for kind in (dtype, "float64")
    )
    for path, p in trial.layer.parameters().items():  # float32 draws other numbers
        p.data[...] = exact.layer.parameters()[path].data
    return trial, trial.variables


def _draws(part: Any) -> bool:
    """Say whether a layer, or one inside it, drops elements at random."""
    if isinstance(part, Layer):
        if isinstance(part, Dropout) or getattr(part, "dropout", 0):
            return True
        return any(map(_draws, vars(part).values()))
    return isinstance(part, list | tuple) and any(map(_draws, part))


def _loss(loss: Loss, prediction: Any, target: Any, dtype: str) -> Any:
    p, t = variable(prediction, dtype), cast(target, dtype)
    return lambda: loss.compute(p, t), {"the prediction": p}


def _shapes(args: list[Any]) -> set[str]:
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    floats = {a.shape for a in arrays if a.dtype.kind == "f"}
    if any(0 in a.shape for a in arrays):
        return {"empty"}
    found = {"broadcast"} if len(floats) > 1 else set()
    odd = any(1 in a.shape or a.ndim == 0 for a in arrays)
    return found | {"size 1" if odd else "plain"}


def _why_not(kind: str, name: str, shape: str) -> str:
    """Return why a subject has no case of a shape; nothing if there is no reason."""
    if kind == "layer" and shape != "plain":
        return BY_CHECK
    if kind == "loss" and shape != "plain":
        return BY_CHECK_OF_LOSSES if shape == "empty" else "shapes must be equal"
    return UNEQUAL if shape == "broadcast" else ""
