"""Recurrent networks: one base that owns the loops, and cells that name a step."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from sillar.core.dtypes import is_boolean
from sillar.core.functional import stack
from sillar.core.ops import concat, relu, tanh
from sillar.core.parameter import Initializer, Parameter
from sillar.core.rng import Rng
from sillar.core.tape import lift
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, ShapeError
from sillar.nn.layer import Layer
from sillar.nn.layers import at_least, dropout, probability
from sillar.nn.sweep import (
    State,
    Weights,
    gru_cell,
    lstm_cell,
    recurrent,
    recurrent_keep,
    sweep,
    zeros_of,
)

MOST_LAYERS = 1000  # a description from a file must not keep us busy for long


class Recurrent(Layer):
    """A network over time: x (batch, time, n_in) -> (batch, time, directions * hidden).

    With `last` the output is (batch, directions * hidden), what each direction ends
    with. After x may follow a first state (batch, states, layers * directions, hidden),
    zeros if absent, and a mask (batch, time) of truths: where it is False, the state
    stands still and the output is zero. `unroll` returns the last state as well.
    Between layers, elements are dropped with probability `dropout` in training.

    A subclass defines `cell`, and how many `gates` and `states` that cell has. The
    weights of layer k are weight_ih_lk (n_in, gates * hidden), weight_hh_lk (hidden,
    gates * hidden), bias_ih_lk and bias_hh_lk, and the same with _reverse for the
    direction from the last step to the first. All are drawn from U(-a, a) with
    a = 1 / sqrt(hidden).
    """

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    kernel: ClassVar[str | None] = None  # the name of a kernel that computes this cell

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        last: bool = False,
    ) -> None:
        owner = type(self).__name__
        self.n_in = at_least(owner, "n_in", n_in, 1)
        self.n_hidden = at_least(owner, "n_hidden", n_hidden, 1)
        self.layers = at_least(owner, "layers", layers, 1)
        if layers > MOST_LAYERS:
            raise ConfigError(
                f"{owner}: layers must be at most {MOST_LAYERS}, got {layers}"
            )
        self.bidirectional, self.bias, self.last = bidirectional, bias, last
        self.dropout = probability(owner, "dropout", dropout)
        self.names = [
            f"l{k}{direction}"
            for k in range(layers)
            for direction in ("", "_reverse")[: 1 + bidirectional]
        ]
        width, draw = self.gates * n_hidden, _uniform(1 / math.sqrt(n_hidden))
        for name in self.names:
            inputs = n_in if name[:2] == "l0" else n_hidden * (1 + bidirectional)
            shapes = {"weight_ih": (inputs, width), "weight_hh": (n_hidden, width)}
            if bias:
                shapes |= {"bias_ih": (width,), "bias_hh": (width,)}
            for kind, shape in shapes.items():
                setattr(self, f"{kind}_{name}", Parameter(shape, draw))

    @abstractmethod
    def cell(
        self, a: Sequence[Tensor], b: Sequence[Tensor], state: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Return the state after one step; the first of its tensors is the output h.

        For each gate, `a` holds W_ih x + b_ih and `b` holds W_hh h + b_hh. They and the
        state's tensors are (hidden, batch).
        """

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        mask = more[-1] if more and is_boolean(more[-1].data) else None
        states = more if mask is None else more[:-1]
        if len(states) > 1:
            raise ShapeError(
                f"{self!r}: expected (x), (x, state), and after them a mask of truths,"
                f" got a third input {states[-1].dtype} {states[-1].shape}"
            )
        outputs, ends = self._unroll(x, states[0] if states else None, mask)
        if self.last:
            h = [state[0] for state in ends[-1 - self.bidirectional :]]
            return (concat(*h) if len(h) > 1 else h[0]).T
        return outputs.transpose(2, 0, 1)

    def unroll(
        self, x: Any, state: Any = None, mask: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs at all steps and the last state.

        The state is (batch, states, layers * directions, hidden), as a later call takes
        it. Inside a layer that trains, dropout is on.
        """
        x = lift(x)
        if state is None:
            shape = (x.shape[0], self.states, len(self.names), self.n_hidden)
            weight = getattr(self, f"weight_hh_{self.names[0]}")
            state = zeros_of(weight, shape)
        mask = None if mask is None else lift(mask)
        outputs, ends = self._unroll(x, lift(state), mask)
        rows = [stack([state[i] for state in ends]) for i in range(self.states)]
        return outputs.transpose(2, 0, 1), stack(rows).transpose(3, 0, 1, 2)

    def _unroll(
        self, x: Tensor, state: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        """Return outputs (time, features, batch), and each sweep's last state."""
        self._check(x, state, mask)
        sequence = x.transpose(1, 2, 0)
        kept = None if mask is None else mask.T.reshape(x.shape[1], 1, x.shape[0])
        directions = 1 + self.bidirectional
        ends: list[State] = []
        for k in range(0, len(self.names), directions):
            if k:
                sequence = dropout(sequence, self.dropout)
            outputs, last = [], self.last and k + directions == len(self.names)
            for i in range(k, k + directions):
                first = None if state is None else self._first(state, i)
                output, end = self._sweep(self.names[i], sequence, first, kept, last)
                outputs.append(output)
                ends.append(end)
            sequence = concat(*outputs, axis=1) if directions > 1 else outputs[0]
        return sequence, ends

    def _sweep(
        self,
        name: str,
        xs: Tensor,
        state: State | None,
        mask: Tensor | None,
        last: bool,
    ) -> tuple[Tensor, State]:
        """Return one direction's outputs (time, hidden, batch) and its last state.

        Without a first state, which is then zeros, the last state may be h alone, and
        with `last` the outputs may be the last one alone.
        """
        backwards = name.endswith("_reverse")
        if backwards:
            xs, mask = xs[::-1], mask if mask is None else mask[::-1]
        weights = self._weights(name)
        if state is None and mask is None and self.kernel:
            w = _in_one(weights)
            kept = recurrent_keep(xs, w, cell=self.kernel)
            ys = recurrent(xs, w, kept, cell=self.kernel, last=last)
            state = (ys[-1],)
        else:
            if state is None:
                zeros = zeros_of(weights.hh, (self.n_hidden, xs.shape[2]))
                state = (zeros,) * self.states
            ys, state = sweep(self.cell, weights, xs, state, mask)
        return ys[::-1] if backwards else ys, state

    def _first(self, state: Tensor, i: int) -> State:
        """Return the state that sweep i begins with, each tensor (hidden, batch)."""
        return tuple(state[:, j, i].T for j in range(self.states))

    def _weights(self, name: str) -> Weights:
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return Weights(*(getattr(self, f"{kind}_{name}", None) for kind in kinds))

    def _check(self, x: Tensor, state: Tensor | None, mask: Tensor | None) -> None:
        if x.ndim != 3 or x.shape[-1] != self.n_in or x.shape[1] == 0:
            raise ShapeError(
                f"{self!r}: expected input (batch, time, {self.n_in}) with at least one"
                f" step, got {x.shape}"
            )
        expected = (x.shape[0], self.states, len(self.names), self.n_hidden)
        if state is not None and state.shape != expected:
            raise ShapeError(
                f"{self!r}: expected a state (batch, states, layers * directions,"
                f" hidden) of shape {expected}, got {state.shape}"
            )
        if mask is not None and (
            mask.shape != x.shape[:2] or not is_boolean(mask.data)
        ):
            raise ShapeError(
                f"{self!r}: expected a mask of booleans {x.shape[:2]}, (batch, time),"
                f" got {mask.dtype} {mask.shape}"
            )


class RNN(Recurrent):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of it (Elman 1990)."""

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        last: bool = False,
        nonlinearity: str = "tanh",
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ConfigError(
                f"RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r:.40}"
            )
        self.nonlinearity = nonlinearity
        super().__init__(
            n_in,
            n_hidden,
            layers=layers,
            bidirectional=bidirectional,
            bias=bias,
            dropout=dropout,
            last=last,
        )

    def cell(
        self, a: Sequence[Tensor], b: Sequence[Tensor], state: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        z = a[0] + b[0]
        return [tanh(z) if self.nonlinearity == "tanh" else relu(z)]


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with forget gates.

    With a + b = W_ih x + b_ih + W_hh h + b_hh, gates in the order i, f, g, o:
    i, f, o = sigmoid(a + b); g = tanh(a + b); c' = f c + i g; h' = o tanh(c')
    (Gers et al. 2000). The state is h and c.
    """

    gates, states, kernel = 4, 2, "lstm"

    def cell(
        self, a: Sequence[Tensor], b: Sequence[Tensor], state: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        return lstm_cell(a, b, state)


class GRU(Recurrent):
    """Gated recurrent unit (Cho et al. 2014), its reset after the product.

    With a = W_ih x + b_ih and b = W_hh h + b_hh, gates in the order r, z, n:
    r, z = sigmoid(a + b); n = tanh(a + r b); h' = (1 - z) n + z h.
    """

    gates, kernel = 3, "gru"

    def cell(
        self, a: Sequence[Tensor], b: Sequence[Tensor], state: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        return gru_cell(a, b, state)


def _in_one(weights: Weights) -> Tensor:
    """Return weights and biases as the rows of one matrix."""
    width = weights.ih.shape[1]
    biases = (weights.bias_ih, weights.bias_hh)
    if biases[0] is None:
        rows = [zeros_of(weights.ih, (2, width))]
    else:
        rows = [bias.reshape(1, width) for bias in biases]
    return concat(weights.ih, *rows, weights.hh)


def _uniform(limit: float) -> Initializer:
    def draw(rng: Rng, shape: tuple[int, ...], dtype: Any) -> Any:
        return rng.uniform(shape, dtype, -limit, limit)

    return draw
