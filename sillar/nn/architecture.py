"""A model's architecture as plain data, from a closed list of our own layers.

`describe` returns {"type": "Dense", "n_in": 4, ...}; `build` makes the layer again and
can make nothing else: every type, initialiser and argument is looked up or checked. The
description of a model whose layers share weights says so, under "ties".
"""

from __future__ import annotations

import math
import reprlib  # what came may be nested deeper than repr can go
from collections.abc import Mapping
from typing import Any

from sillar.describe import arguments, construct
from sillar.errors import ConfigError
from sillar.nn import (
    activations,
    attention,
    branches,
    convnet,
    convolutions,
    images,
    initializers,
    layers,
    normalization,
    positions,
    recurrent,
    series,
    tables,
    transformer,
)
from sillar.nn.layer import Layer
from sillar.nn.ties import tie, ties

DEPTH = 32  # of containers in one another
PARTS = 10_000  # that one description may ask for; a file has room for as many arrays
REPEATS = ("blocks", "depth", "layers")  # arguments that say how often a part comes
LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        *(layers.Dense, layers.Dropout, layers.Embedding, layers.Flatten),
        *(images.Conv2D, images.MaxPool2D, images.AvgPool2D),
        *(images.GlobalAvgPool2D, images.GlobalMaxPool2D),
        *(convolutions.Conv2DTranspose, convolutions.DepthwiseConv2D),
        *(convolutions.SeparableConv2D, series.Conv1D),
        *(convnet.ConvNet, convnet.ResNet, convnet.ResidualBlock),
        *(series.MaxPool1D, series.AvgPool1D),
        *(series.GlobalAvgPool1D, series.GlobalMaxPool1D),
        *(normalization.BatchNorm, normalization.LayerNorm),
        *(attention.Attention, transformer.TransformerBlock, transformer.GPT),
        *(positions.LearnedPositions, positions.SinusoidalPositions),
        *(normalization.GroupNorm, tables.CodedDense, tables.Rescaling),
        *(recurrent.GRU, recurrent.LSTM, recurrent.RNN),
        *(activations.ELU, activations.GELU, activations.LeakyReLU),
        *(activations.ReLU, activations.Sigmoid, activations.SiLU),
        *(activations.Softmax, activations.Softplus, activations.Tanh),
    )
}
CONTAINERS: dict[str, type[layers.Container]] = {
    kind.__name__: kind
    for kind in (
        layers.Sequential,
        branches.Parallel,
        branches.ReconstructionError,
    )
}
FLAGS = frozenset(
    (
        *("bias", "affine", "approximate", "fixed", "causal", "rotary", "tied"),
        *("bidirectional", "last"),
    )
)
INITIALIZERS = {
    function.__name__: function
    for function in (
        *(initializers.zeros, initializers.ones, initializers.standard_normal),
        *(initializers.small_normal, initializers.orthogonal),
        *(initializers.xavier_uniform, initializers.xavier_normal),
        *(initializers.he_uniform, initializers.he_normal),
        *(initializers.lecun_uniform, initializers.lecun_normal),
    )
}


def describe(layer: Layer) -> dict[str, Any] | None:
    """Return the layer as plain data, or None if any part is not of the closed list."""
    described = _describe(layer)
    shared = {} if described is None else ties(layer)
    return described | {"ties": shared} if shared else described


def _describe(layer: Layer) -> dict[str, Any] | None:
    name = type(layer).__name__
    if isinstance(layer, layers.Container) and CONTAINERS.get(name) is type(layer):
        parts = [_describe(part) for part in layer.layers]
        return None if None in parts else {"type": name, "layers": parts}
    if LAYERS.get(name) is not type(layer):
        return None
    described: dict[str, Any] = {"type": name}
    for name, value in arguments(layer).items():
        if name == "initializer":
            if INITIALIZERS.get(value.__name__) is not value:
                return None
            value = value.__name__
        described[name] = list(value) if isinstance(value, tuple) else value
    return described


def build(description: Any, owner: str = "architecture") -> Layer:
    """Return the layer that `description` describes; it has no values yet."""
    _check_parts(owner, description)
    if not isinstance(description, Mapping) or "ties" not in description:
        return _build(description, owner, 0)
    rest = {name: value for name, value in description.items() if name != "ties"}
    layer = _build(rest, owner, 0)
    tie(owner, layer, description["ties"])
    return layer


def _check_parts(owner: str, description: Any) -> None:
    """Raise if a few words ask for more parts than any file could fill."""
    total, rest = 0, [description]
    while rest and total <= PARTS:
        table = rest.pop()
        if isinstance(table, Mapping):
            stages = table.get("widths")
            count = math.prod(_largest(table.get(name)) for name in REPEATS)
            total += count * (len(stages) if isinstance(stages, list) else 1)
            parts = table.get("layers")
            rest += parts if isinstance(parts, list) else []
    if total > PARTS:
        raise ConfigError(f"{owner}: more than {PARTS} parts: describe a smaller model")


def _largest(value: Any) -> int:
    """Return the largest integer in an argument, at least 1."""
    values = value if isinstance(value, list) else [value]
    return max([1, *(v for v in values if type(v) is int)])


def _build(description: Any, owner: str, depth: int) -> Layer:
    if depth > DEPTH:
        raise ConfigError(f"{owner}: more than {DEPTH} containers in one another")
    kind = description.get("type") if isinstance(description, Mapping) else None
    if isinstance(kind, str) and kind in CONTAINERS:
        parts = description.get("layers")
        if not isinstance(parts, list) or set(description) != {"type", "layers"}:
            raise ConfigError(
                f"{owner}: {kind} takes (layers), a list of tables, got"
                f" {sorted(map(str, description))!r:.80}"
            )
        return CONTAINERS[kind](
            *(_build(part, f"{owner}.{i}", depth + 1) for i, part in enumerate(parts))
        )
    if not isinstance(description, Mapping):
        return construct(owner, description, LAYERS)  # says what is wrong
    table = {name: _plain(owner, name, v) for name, v in description.items()}
    layer: Layer = construct(owner, table, LAYERS)
    return layer


def _plain(owner: str, name: str, value: Any) -> Any:
    """Return an argument: numbers, flags, text, pairs of integers, initialisers."""
    if name == "initializer":
        if not isinstance(value, str) or value not in INITIALIZERS:
            raise ConfigError(
                f"{owner}: unknown initializer {reprlib.repr(value)}; known are"
                f" {', '.join(sorted(INITIALIZERS))}"
            )
        return INITIALIZERS[value]
    if isinstance(value, list) and all(type(part) is int for part in value):
        return tuple(value)
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ConfigError(f"{owner}: {name} cannot be {reprlib.repr(value)}")
    if name in FLAGS and type(value) is not bool:
        raise ConfigError(
            f"{owner}: {name} must be true or false, got {reprlib.repr(value)}"
        )
    return value
