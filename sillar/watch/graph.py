"""What a tensor was computed by: recorded operations, and the layer of each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sillar.backends import Array, backend_of
from sillar.core.grad import grad, recorded
from sillar.core.listen import Listener
from sillar.core.tensor import Tensor
from sillar.describe import label
from sillar.errors import GradientError
from sillar.nn import Layer
from sillar.nn.layers import Container
from sillar.watch.where import Places, named_layers

Path = tuple[str, ...]


class Graph(NamedTuple):
    """The operations that `output` needs, in the order of their calls.

    `tensors[i]` came out of operation i, which belongs to the layer `paths[i]`; ()
    is outside of every layer. `kinds` describes the layers by their paths, and
    `names` the parameters by their ids.
    """

    output: Tensor
    tensors: Sequence[Tensor]
    paths: Sequence[Path]
    kinds: Mapping[Path, str]
    names: Mapping[int, str]


class _Ear(Listener):
    """Notes the layer of each call that is recorded."""

    def __init__(self, model: Layer | None) -> None:
        self.places = Places(model)
        self.found: dict[int, tuple[Path, str]] = {}  # by the order of the node

    def after(self, primitive, args, arrays, static, out):
        """Note where the call comes from."""
        if out.node is not None:
            where = self.places.here()
            self.found[out.node.order] = as_path(where.layer), where.kind


def as_path(text: str) -> Path:
    """Return a dotted path in its parts."""
    return tuple(text.split(".")) if text else ()


def graph_of(
    owner: str, output: Tensor | Callable[[], Tensor], model: Layer | None
) -> Graph:
    """Return the graph of a tensor, or of what a function returns while it is heard.

    Of a tensor that was computed before, only the operations that take a parameter
    of `model` have a known layer; those between are where their neighbours meet.
    """
    names: dict[int, str] = {}
    kinds: dict[Path, str] = {}
    if model is not None:
        names = {id(p): path for path, p in model.parameters().items()}
        kinds = {as_path(path): kind_of(x) for path, x in named_layers(model)}
    own: dict[int, Path] = {}
    if callable(output):
        with _Ear(model) as ear:
            output = output()
        root = type(model).__name__ if model is not None else None
        for order, (path, kind) in ear.found.items():
            own[order] = () if path == (root,) else path
            kinds.setdefault(own[order], kind)
    tensors = recorded([_checked(owner, output)])
    if not own:
        own = _by_parameters(tensors, names)
    return Graph(output, tensors, _filled(tensors, own), kinds, names)


def kind_of(layer: Layer) -> str:
    """Return the layer in a few words, as Dense(288, 10)."""
    if isinstance(layer, Container):
        return type(layer).__name__
    return label(layer).removesuffix("()")


def _checked(owner: str, output: Any) -> Tensor:
    """Return the output if it was recorded."""
    if not isinstance(output, Tensor):
        raise GradientError(
            f"{owner}: expected a tensor or a function that returns one, got"
            f" {type(output).__name__}"
        )
    if output.node is None:
        raise GradientError(
            f"{owner}: the tensor was not computed from any variable, so nothing was"
            " recorded: give a loss or an output of model(x), not under no_grad()"
        )
    return output


def _by_parameters(tensors: Sequence[Tensor], names: Mapping[int, str]) -> Any:
    """Return the path of the layer whose parameter an operation takes, by order."""
    own = {}
    for y in tensors:
        inputs = y.node.inputs
        paths = [as_path(names[id(x)])[:-1] for x in inputs if id(x) in names]
        if paths:
            own[y.node.order] = _shared(paths)
    return own


def _filled(tensors: Sequence[Tensor], own: Mapping[int, Path]) -> list[Path]:
    """Return the path of every operation.

    One whose layer is not known is where the layers before and after it meet.
    """
    before: dict[int, Path | None] = {}
    after: dict[int, Path] = {}
    for y in tensors:
        inputs = [id(x) for x in y.node.inputs]
        known = [before[i] for i in inputs if before.get(i) is not None]
        path = own.get(y.node.order)
        before[id(y)] = path if path is not None else (known or [None])[-1]
    for y in reversed(tensors):
        path = own.get(y.node.order, after.get(id(y), ()))
        for x in y.node.inputs:
            after.setdefault(id(x), path)
    paths = []
    for y in tensors:
        sides = before[id(y)] or (), after.get(id(y), ())
        path = own.get(y.node.order)
        paths.append(_shared(sides) if path is None else path)
    return paths


def _shared(paths: Sequence[Path]) -> Path:
    """Return the path that all of them begin with."""
    parts = itertools.takewhile(lambda p: len(set(p)) == 1, zip(*paths, strict=False))
    return tuple(part[0] for part in parts)


def gradient_norms(output: Tensor, tensors: Sequence[Tensor]) -> list[float]:
    """Return the Euclidean norm of the gradient of `output` at each tensor."""
    return [norm(g.data) for g in grad(output, list(tensors))]


def norm(array: Array) -> float:
    """Return the Euclidean norm, added up in double precision."""
    flat = np.ravel(backend_of(array).to_numpy(array)).astype(np.float64, copy=False)
    return float(np.sqrt(np.dot(flat, flat)))
