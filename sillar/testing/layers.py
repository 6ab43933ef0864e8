"""What every layer promises, held against one of yours."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from sillar.core.grad import grad, recorded
from sillar.core.rng import Rng
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, DtypeError, GradientError, ShapeError
from sillar.nn.layer import Layer
from sillar.testing.compare import (
    EXACT,
    check_close,
    check_finite,
    ones_like,
    variable,
    within,
)
from sillar.testing.gradients import (
    check_rules,
    check_variables,
    draw,
    is_variable,
    projected,
)

TRAINING = Rng(0).split("training")
MODES = {"at inference": None, "in training": TRAINING}


def check_layer(layer: Layer, *inputs: Any, order: int = 2) -> None:
    """Raise unless a copy of `layer` keeps the promises of a layer on `inputs`.

    The first axis of the inputs is the batch, of two examples or more, and their values
    lie away from kinks. At inference and in training, with new parameters: derivatives
    for inputs and parameters match differences up to `order`; an own `backward` equals
    the automatic gradient (at higher orders too, if it is made of tensor operations);
    float32 stays float32; `parameters()` finds what the output depends on; examples do
    not mix unless the layer says `mixes_batch`. A batch of one, or of none, gives as
    many outputs or a ShapeError, and `load_state(state())` brings the outputs back.
    """
    for mode, rng in MODES.items():
        with within(f"{layer!r} {mode}"):
            _check_walk(Trial(layer, inputs, "float64", rng))
            _check_derivatives(Trial(layer, inputs, "float64", rng), order)
            _check_single(Trial(layer, inputs, "float32", rng))
            _check_mixing(Trial(layer, inputs, "float64", rng))
            for n in (1, 0):
                _check_batch(Trial(layer, inputs, "float64", rng), n)
    with within(f"{layer!r}"):
        _check_state(layer, inputs)


class Trial:
    """A copy of a layer in one precision, its inputs, and one way to call it."""

    def __init__(
        self, layer: Layer, inputs: tuple[Any, ...], dtype: str, rng: Rng | None
    ) -> None:
        self.layer = copy.deepcopy(layer).init(Rng(0).split("init"), dtype)
        for path, p in self.layer.parameters().items():  # zeros and ones are special
            p.data += Rng(0).split("moved", path).normal(p.shape, dtype) * 0.125
        self.inputs = [variable(x, dtype) for x in inputs]
        self.rng = rng

    @property
    def variables(self) -> dict[str, Tensor]:
        """Return what the output may depend on, by name."""
        named = {f"input {i}": x for i, x in enumerate(self.inputs) if is_variable(x)}
        return {**named, **self.layer.parameters()}

    def __call__(self) -> Tensor:
        return self.layer(*self.inputs, rng=self.rng)

    def automatic(self) -> Tensor:
        """Return the output with the automatic gradient, not the layer's own."""
        vars(self.layer)["backward"] = None
        try:
            return self()
        finally:
            del vars(self.layer)["backward"]


def _check_walk(trial: Trial) -> None:
    known = {id(x) for x in trial.variables.values()}
    leaves = [
        x
        for y in recorded([trial.automatic()])
        for x in y.node.inputs
        if is_variable(x) and x.node is None
    ]
    hidden = [x.shape for x in leaves if id(x) not in known]
    if hidden:
        raise GradientError(
            "expected parameters() to find every variable that the output depends on,"
            f" got others of shapes {hidden}: keep them as attributes, or in lists,"
            " tuples or dicts"
        )


def _check_derivatives(trial: Trial, order: int) -> None:
    if not trial.variables:
        return
    if trial.layer.backward is not None:
        order = order if _has_higher_orders(trial) else 1
        _check_own_backward(trial, order)
    check_variables(trial, trial.variables, order=order)


def _has_higher_orders(trial: Trial) -> bool:
    """Say whether the layer's own gradient is made of tensor operations."""
    y = trial()
    u = Tensor(np.ones_like(y.data), requires_grad=True)
    try:
        gradients = grad(y, trial.variables, cotangents=u, create_graph=True)
    except DtypeError:  # it was converted to NumPy
        return False
    return any(g.requires_grad for g in gradients.values())


def _check_own_backward(trial: Trial, order: int) -> None:
    own, automatic, rng = trial, trial.automatic, Rng(0)
    for n in range(1, order + 1):
        u = draw(rng.split("u", n), "u", own())
        expected = grad(automatic(), trial.variables, cotangents=u)
        got = grad(own(), trial.variables, cotangents=u)
        for name in trial.variables:
            what = f"order {n}: own backward for {name}"
            check_close(what, expected[name], got[name], EXACT)
        automatic = projected(automatic, trial.variables, rng.split("w", n))
        own = projected(own, trial.variables, rng.split("w", n))


def _check_single(trial: Trial) -> None:
    y = trial()
    if y.dtype.kind == "f" and y.dtype != np.float32:
        raise DtypeError(f"expected float32 from float32 inputs, got {y.dtype}")
    check_rules(y)
    for name, g in grad(y, trial.variables, cotangents=ones_like(y)).items():
        check_finite(f"the gradient for {name}", g)


def _check_mixing(trial: Trial) -> None:
    """Raise if the first output depends on another example and nobody says so."""
    y = trial()
    inputs = {k: x for k, x in trial.variables.items() if k.startswith("input ")}
    if y.ndim == 0 or {x.shape[:1] for x in inputs.values()} != {y.shape[:1]}:
        return
    u = ones_like(y)
    u.data[1:] = 0
    for name, g in grad(y, inputs, cotangents=u).items():
        if g.numpy()[1:].any() and not _mixes(trial.layer):
            raise GradientError(
                f"expected each output to depend on its own example of {name} alone,"
                " got a dependence on others: set mixes_batch = True in the class"
            )


def _mixes(part: Any) -> bool:
    """Say whether a layer, or one inside it, declares that examples mix."""
    if isinstance(part, Layer):
        return part.mixes_batch or any(map(_mixes, vars(part).values()))
    parts = part.values() if isinstance(part, dict) else part
    return isinstance(part, list | tuple | dict) and any(map(_mixes, parts))


def _check_batch(trial: Trial, n: int) -> None:
    """Raise unless `n` examples give what they give in the batch, or a ShapeError."""
    batch, whole = trial.inputs[0].shape[:1], trial().numpy()
    trial.inputs = [variable(x.data[:n], x.dtype) for x in trial.inputs]
    try:
        y = trial()
    except ShapeError:
        return
    expected = whole[:n]
    if whole.shape[:1] == batch and y.shape != expected.shape:
        raise ShapeError(
            f"expected {expected.shape} from a batch of {n}, got {y.shape}"
        )
    if whole.shape[:1] == batch and trial.rng is None and not _mixes(trial.layer):
        check_close(f"the output of a batch of {n}", expected, y, EXACT)
    for name, g in grad(y, trial.variables, cotangents=ones_like(y)).items():
        check_finite(f"the gradient for {name} of a batch of {n}", g)


def _check_state(layer: Layer, inputs: tuple[Any, ...]) -> None:
    first = Trial(layer, inputs, "float32", TRAINING)
    first()  # moves the buffers, if there are any
    first.rng = None
    expected, state = first().numpy(), first.layer.state()
    names = [*first.layer.parameters(), *first.layer.buffers()]
    if list(state) != names:
        raise ConfigError(f"expected state() to hold {names}, got {list(state)}")
    second = Trial(layer, inputs, "float32", None)
    second.layer.init(Rng(1)).load_state(state)
    if not np.array_equal(expected, second().numpy()):
        raise ConfigError(
            "expected load_state(state()) to bring the outputs back, got others: keep"
            " what forward needs in a Parameter or a Buffer"
        )
