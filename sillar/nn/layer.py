"""The layer: plain attributes, one `forward`, and a walk that finds the parameters."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from sillar.backends import backend_of, load
from sillar.core.extend import with_gradient
from sillar.core.parameter import Buffer, Parameter, Parameters
from sillar.core.rng import Rng
from sillar.core.tape import lift
from sillar.core.tensor import Tensor
from sillar.describe import label
from sillar.errors import ConfigError, DtypeError, ShapeError, SillarError


class _Scope(threading.local):
    """The training call this thread is in: its rng, and how often it was drawn from."""

    rng: Rng | None = None
    draws = 0


_scope = _Scope()


def is_training() -> bool:
    """Say whether the surrounding call was given an `rng`, that is, trains."""
    return _scope.rng is not None


def next_rng() -> Rng | None:
    """Return a key for the next random draw of this training call; None otherwise."""
    if _scope.rng is None:
        return None
    _scope.draws += 1
    return _scope.rng.split("draw", _scope.draws)


class Layer(ABC):
    """A function with parameters.

    A subclass keeps `Parameter`, `Buffer` and other layers as attributes, in lists,
    tuples or dicts, and defines `forward`. The constructor only describes;
    `init(rng)` draws. `layer(x)` infers; `layer(x, rng=rng)` trains: dropout draws
    from `rng`, batch normalisation uses the statistics of the batch.

    A subclass may define `backward(self, g, *inputs)`, which then replaces the
    automatic gradient: it returns a tuple of one gradient per input, then one per
    parameter in the order of `parameters()`.
    """

    backward: ClassVar[Any] = None
    mixes_batch: ClassVar[bool] = False  # does one example's output depend on others?

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the output."""

    def __call__(self, *inputs: Any, rng: Rng | None = None) -> Tensor:
        """Return forward(*inputs), in training if `rng` is given."""
        if rng is not None:
            return self._train(inputs, rng)
        try:
            tensors = tuple(map(lift, inputs))
            if self.backward is None:
                return self.forward(*tensors)
            own = tuple(self.parameters().values())
            return with_gradient(
                type(self).__name__,
                lambda: self.forward(*tensors),
                lambda g: self.backward(g, *tensors),
                (*tensors, *own),
            )
        except SillarError as error:
            error.trail.insert(0, self._label())
            raise

    def _train(self, inputs: tuple[Any, ...], rng: Rng) -> Tensor:
        before = _scope.rng, _scope.draws
        _scope.rng, _scope.draws = rng, 0
        try:
            return self(*inputs)
        finally:
            _scope.rng, _scope.draws = before

    def init(self, rng: Rng, dtype: Any = "float32", *, keep: bool = False) -> Any:
        """Lay the parameters out in one vector and draw them; return the layer.

        Each value is drawn from `rng` and the parameter's path, so it does not depend
        on the order of construction. With `keep`, what has a value keeps it.
        """
        if not isinstance(rng, Rng):
            raise ConfigError(f"init: expected sillar.Rng(seed), got {rng!r}")
        dtype = _float_type(dtype)

        def value(path: str, p: Parameter) -> Any:
            if keep and p.data is not None:
                return p.data
            return p.init(rng.split(path), p.shape, dtype)

        self.parameters().lay_out(dtype, value)
        for path, buffer in self.buffers().items():
            new = value(path, buffer)
            home = backend_of(new if buffer.data is None else buffer.data)
            buffer.data = new if home is backend_of(new) else home.from_numpy(new)
        return self

    def parameters(self) -> Parameters:
        """Return the trained parameters by dotted path, in order of definition."""
        found = self._walk()
        return Parameters({k: p for k, p in found.items() if p.trained})

    def buffers(self) -> dict[str, Buffer]:
        """Return what is saved but not trained, by dotted path."""
        return {k: b for k, b in self._walk().items() if isinstance(b, Buffer)}

    def state(self) -> dict[str, Any]:
        """Return the arrays of all parameters, then of all buffers, on the host.

        They are views where that is the same memory.
        """
        if self.parameters():
            self.parameters().vector  # noqa: B018  says so if there are no values yet
        named = (*self.parameters().items(), *self.buffers().items())
        return {k: backend_of(p.data).to_numpy(p.data) for k, p in named}

    def to(self, backend: str, device: str | None = None) -> Self:
        """Move all values to a device of a back end, as in model.to("torch", "cuda").

        An optimizer is bound after that; `fit` does.
        """
        home, arrays = load(backend), self.state()
        home.from_numpy(np.empty(0), device)  # says if there is no such device
        parameters = self.parameters()
        if parameters:
            dtype = next(iter(parameters.values())).dtype
            parameters.lay_out(dtype, lambda path, p: arrays[path], backend=home)
        for path, buffer in self.buffers().items():
            buffer.data = home.from_numpy(arrays[path].copy())
        return self

    def load_state(self, arrays: Mapping[str, Any]) -> None:
        """Take all values from `arrays`, by path; nothing is changed on a mismatch."""
        declared = {**self.parameters(), **self.buffers()}
        missing = [path for path in declared if path not in arrays]
        unknown = [path for path in arrays if path not in declared]
        if missing or unknown:
            raise ConfigError(
                f"load_state: the arrays are not this model's: missing {missing},"
                f" unexpected {unknown}"
            )
        for path, p in declared.items():
            if tuple(arrays[path].shape) != p.shape:
                raise ShapeError(
                    f"load_state: expected shape {p.shape} for {path}, got"
                    f" {tuple(arrays[path].shape)}"
                )
        parameters = self.parameters()
        first = next(iter(parameters), None)
        if first is not None:
            parameters.lay_out(arrays[first].dtype, lambda path, p: arrays[path])
        for path, buffer in self.buffers().items():
            home = backend_of(arrays[path] if buffer.data is None else buffer.data)
            buffer.data = home.from_numpy(arrays[path].copy())

    def _walk(self) -> dict[str, Parameter]:
        found: dict[str, Parameter] = {}
        seen: set[int] = set()
        for path, p in _find(self, "", seen):
            if path in found:
                raise ConfigError(
                    f"{type(self).__name__}: two parameters have the path {path!r}:"
                    " rename a key of the dict that holds one of them"
                )
            found[path] = p
        return found

    def _label(self) -> str:
        return label(self)

    def __repr__(self) -> str:
        return self._label()


def _float_type(dtype: Any) -> str:
    """Return float32 or float64, however it was written."""
    name = getattr(dtype, "__name__", str(dtype))
    if name not in ("float32", "float64"):
        raise DtypeError(f"init: dtype must be float32 or float64, got {dtype!r:.60}")
    return str(name)


def _find(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Parameter]]:
    """Yield every parameter below `value` once, with its dotted path."""
    if isinstance(value, Parameter | Layer):
        if id(value) in seen:
            return
        seen.add(id(value))
    if isinstance(value, Parameter):
        yield path, value
    for below, _, part in parts_of(value, path):
        yield from _find(part, below, seen)


def parts_of(value: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield what a layer or container at `path` holds: dotted path, name, part."""
    if isinstance(value, Layer | dict):
        parts = (vars(value) if isinstance(value, Layer) else value).items()
    else:
        parts = enumerate(value) if isinstance(value, list | tuple) else ()
    for name, part in parts:
        yield f"{path}.{name}" if path else str(name), name, part
