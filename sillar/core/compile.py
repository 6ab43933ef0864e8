"""Compiled steps: traced once for each kind of arguments, then replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

from sillar.backends import Array, backend_of
from sillar.core.dtypes import SCALARS
from sillar.core.rng import Rng
from sillar.core.state import recording
from sillar.core.tape import lift
from sillar.core.tensor import Tensor, wrap
from sillar.core.trace import Trace, TracedRng
from sillar.errors import CompileError

_PLAIN = (Rng, *SCALARS)  # arguments that are not arrays


class Compiled:
    """A step that is traced at its first call and replayed afterwards.

    Arguments are arrays, tensors, generators (`Rng`) and Python numbers; a new shape,
    type or number makes a new trace. The result is a tensor, or tuples, lists and
    mappings of them. A replay does what the traced calls did, to the same bits in
    one thread; parts of a batch on threads (`set_threads`) round sums otherwise. Python
    around them, such as a counter, is not run again. A step that reads a tensor's
    values in Python raises CompileError.

    With `reuse` a result holds until the next call, which may write over it: one copy
    less. One call runs at a time; others wait. While a `Listener` listens, the step
    runs as it is written, so that every call is heard. `rewrite(trace, backend)` may
    change what replays do; then the first call is a replay, too.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        *,
        reuse: bool = False,
        rewrite: Callable[[Trace, Any], None] | None = None,
    ) -> None:
        self.step, self.reuse, self.rewrite = step, reuse, rewrite
        self._plans: dict[tuple[Any, ...], _Plan] = {}

    def __call__(self, *args: Any) -> Any:
        """Return step(*args)."""
        if recording.listeners and recording.trace is None:
            return self.step(
                *(a if isinstance(a, _PLAIN) else wrap(raw(a)) for a in args)
            )
        kind = tuple(map(_kind, args))
        plan = self._plans.get(kind)
        if plan is not None and plan.holds():
            return plan.replay(args)
        result, self._plans[kind] = _traced(self, args)
        return result


def compile(step: Callable[..., Any], *, reuse: bool = False) -> Compiled:
    """Return the step compiled; see `Compiled`."""
    return Compiled(step, reuse=reuse)


class _Plan:
    """A traced step: its replay, and how to give it arguments and take its results."""

    def __init__(
        self, run: Callable[..., Any], trace: Trace, rebuild: Callable[..., Any]
    ) -> None:
        self.run = run
        self.keys = trace.keys
        self.parameters = tuple(trace.parameters.values())
        self.rebuild = rebuild
        self.lock = Lock()

    def holds(self) -> bool:
        """Say whether the parameters still lie where they were traced."""
        for p, array in self.parameters:  # noqa: SIM110 - several times faster
            if p.data is not array:
                return False
        return True

    def replay(self, args: tuple[Any, ...]) -> Any:
        values = [raw(arg) for arg in args if not isinstance(arg, _PLAIN)]
        for place, path in self.keys:
            rng = args[place]
            for purpose in path:
                rng = rng.split(*purpose)
            values.append(rng.key)
        with self.lock:  # its memory is for one call at a time
            results = self.run(*values)
        return self.rebuild([wrap(array) for array in results])


def _traced(compiled: Compiled, args: tuple[Any, ...]) -> tuple[Any, _Plan]:
    if recording.trace is not None:
        raise CompileError("compile: a compiled step was called while compiling one")
    trace = Trace(dry=compiled.rewrite is not None)
    inputs = [_input(trace, place, arg) for place, arg in enumerate(args)]
    for x in inputs:
        if isinstance(x, Tensor):
            trace.argument(x.data)
    with trace:
        result = compiled.step(*inputs)
    tensors: list[Tensor] = []
    rebuild = _structure(result, tensors)
    if not tensors:
        raise CompileError("compile: the step returns no tensor")
    values = [t.data for t in tensors]
    trace.outputs = [trace.number(value) for value in values]
    del result, tensors  # and all that they were computed from: the plan needs memory
    backend = backend_of(values[0])
    if compiled.rewrite is not None:
        compiled.rewrite(trace, backend)
    plan = _Plan(backend.compile(trace, reuse=compiled.reuse), trace, rebuild)
    if compiled.rewrite is not None:
        return plan.replay(args), plan
    return rebuild([wrap(value) for value in values]), plan


def raw(value: Any) -> Array:
    """Return the array in a tensor; other things pass through a tensor."""
    return value.data if isinstance(value, Tensor) else lift(value).data


def _input(trace: Trace, place: int, arg: Any) -> Any:
    """Return what the step is given while it is traced, for one argument."""
    if isinstance(arg, Rng):
        return TracedRng(arg, trace, place)
    if isinstance(arg, SCALARS):
        return arg
    return wrap(raw(arg)[...])  # a value of its own, even where an array comes twice


def _kind(arg: Any) -> Any:
    """Return what a trace depends on: type and shape, or a number's value."""
    if isinstance(arg, Rng):
        return Rng
    if isinstance(arg, SCALARS):
        return type(arg), arg
    array = raw(arg)
    return array.dtype, tuple(array.shape)


def _structure(value: Any, tensors: list[Tensor]) -> Callable[[Sequence[Any]], Any]:
    """Append the tensors in `value`; return how to put others in their places."""
    if isinstance(value, Tensor):
        place = len(tensors)
        tensors.append(value)
        return lambda parts: parts[place]
    if isinstance(value, Mapping):
        inner = {name: _structure(part, tensors) for name, part in value.items()}
        return lambda parts: {name: build(parts) for name, build in inner.items()}
    if isinstance(value, tuple | list):
        kind, builds = type(value), [_structure(part, tensors) for part in value]
        return lambda parts: kind(build(parts) for build in builds)
    raise CompileError(
        f"compile: a step returns tensors, in tuples, lists or mappings; got"
        f" {type(value).__name__}"
    )
