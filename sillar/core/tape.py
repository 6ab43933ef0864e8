"""The narrow waist: primitives, and the nodes they leave behind.

Everything a model computes is a call of a primitive. A call leaves a node that knows
the primitive, its inputs and its static arguments, never its output, so the graph has
no cycles and is freed as soon as nobody holds its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from sillar.backends import Array, backend_of, load
from sillar.core.dtypes import SCALARS, as_array, as_number, describe
from sillar.core.state import recording
from sillar.core.tensor import Tensor, wrap
from sillar.errors import BackendError, DtypeError, ShapeError, SillarError

Rule = Callable[..., Any]  # (g, y, *inputs, **static) -> gradient of one input

_REFUSALS = (ValueError, TypeError, IndexError, AttributeError, RuntimeError)
_PRIMITIVES: list[Primitive] = []
_next_order = count().__next__


class no_grad:  # noqa: N801 - the field's name for it
    """Context in which nothing is recorded: results have no gradients."""

    __slots__ = ("before",)

    value = False

    def __enter__(self) -> None:
        self.before = recording.on
        recording.on = self.value

    def __exit__(self, *exception: object) -> None:
        recording.on = self.before


class enable_grad(no_grad):  # noqa: N801
    """Context in which calls are recorded, whatever surrounds it."""

    __slots__ = ()

    value = True


class Node:
    """One call: the primitive, its inputs, its static arguments, and its number.

    Numbers grow in the order of calls, so an input's node has a smaller one.
    """

    __slots__ = ("inputs", "order", "primitive", "static")

    def __init__(
        self, primitive: Primitive, inputs: tuple[Any, ...], static: dict[str, Any]
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.static = static
        self.order = _next_order()


class Primitive:
    """A forward over raw arrays and one gradient rule per differentiable argument.

    `forward(xp, *arrays, **static)` calls only functions of the back end `xp`. A rule
    `(g, y, *inputs, **static)` returns the gradient of its input in tensor operations,
    so that it can be differentiated again. A primitive without rules has no gradient.
    """

    def __init__(self, forward: Callable[..., Array]) -> None:
        self.forward = forward
        self.rules: tuple[Rule | None, ...] = ()
        self.each: Rule | None = None
        self.all: Rule | None = None
        self.differentiable = False
        self.name = self.__name__ = forward.__name__.rstrip("_")
        self.__doc__ = forward.__doc__

    def defvjp(self, *rules: Rule | None) -> None:
        """Set one rule per argument, in order; `None` where there is no gradient."""
        self.rules = rules
        self.differentiable = True

    def defvjp_each(self, rule: Rule) -> None:
        """Set one rule `(i, g, y, *inputs, **static)` for any number of arguments."""
        self.each = rule
        self.differentiable = True

    def defvjp_all(self, rule: Rule) -> None:
        """Set one rule `(places, g, y, *inputs, **static)` for several at once.

        It returns a list of the gradients of the inputs in `places`.
        """
        self.all = rule
        self.differentiable = True

    def __call__(self, *args: Any, **static: Any) -> Tensor:
        """Compute the output, and record the call if an input is tracked."""
        arrays = []
        tracked = False
        for arg in args:
            if isinstance(arg, Tensor):
                arrays.append(arg.data)
                if arg.requires_grad:
                    tracked = True
            elif type(arg) in SCALARS and len(args) > 1:
                arrays.append(arg)
            else:
                return self(*_lifted(args), **static)
        xp = _backend(arrays)
        if xp is None:
            return self(*_together(args), **static)
        listeners = recording.listeners
        for listener in listeners:
            listener.before(self, args, static)
        try:
            data = self.forward(xp, *arrays, **static)
        except _REFUSALS as error:
            raise _explained(error, self, arrays, static) from None
        out = wrap(data)
        if tracked and recording.on and self.differentiable:
            out.requires_grad = True
            out.node = Node(self, args, static)
        for listener in listeners:
            listener.after(self, args, arrays, static, out)
        return out

    def gradients(self, places: list[int], g: Tensor, y: Tensor) -> list[Any]:
        """Return the gradient of each input in `places`, given `g` at the output `y`.

        It is None for an input without a rule.
        """
        node = y.node
        assert node is not None
        if self.all is not None:
            return list(self.all(places, g, y, *node.inputs, **node.static))
        if self.each is not None:
            return [self.each(i, g, y, *node.inputs, **node.static) for i in places]
        rules = (self.rules[i] if i < len(self.rules) else None for i in places)
        return [r and r(g, y, *node.inputs, **node.static) for r in rules]

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


def primitive(forward: Callable[..., Array]) -> Primitive:
    """Make a primitive of `forward(xp, *arrays, **static)` and list it."""
    made = Primitive(forward)
    _PRIMITIVES.append(made)
    return made


@primitive
def place(xp: Any, x: Array, *, backend: str) -> Array:
    """Return x as an array of another back end, where its arrays were placed last."""
    home, own = load(backend), backend_of(x)
    return x if own is home else home.from_numpy(own.to_numpy(x))


place.defvjp(lambda g, y, x, *, backend: place(g, backend=backend_of(x.data).name))


def all_primitives() -> tuple[Primitive, ...]:
    """Return every primitive made with `@primitive`, in order of definition."""
    return tuple(_PRIMITIVES)


def effect(function: Callable[..., None], *inputs: Tensor) -> None:
    """Call function(*arrays) for what it does; a compiled step does it each time."""
    arrays = [x.data for x in inputs]
    if recording.trace is not None:
        recording.trace.record_effect(function, arrays)
        if recording.trace.dry:
            return
    for listener in recording.listeners:
        listener.before_effect(function, arrays)
    function(*arrays)
    for listener in recording.listeners:
        listener.after_effect(function, arrays)


def lift(value: Any) -> Any:
    """Return `value` as a tensor; tensors pass."""
    return value if isinstance(value, Tensor) else Tensor(value)


def _lifted(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return tensors for arrays and lists; a number beside others stays weak."""
    if len(args) == 1:
        return (lift(args[0]),)
    numbers = map(as_number, args)
    return tuple(arg if type(arg) in SCALARS else lift(arg) for arg in numbers)


def _together(args: tuple[Any, ...]) -> Iterator[Any]:
    """Yield the arguments, those of NumPy placed where the others are."""
    homes = {backend_of(a.data).name for a in args if isinstance(a, Tensor)}
    (home,) = homes - {"numpy"} if len(homes) == 2 else (None,)
    if home is None:
        raise BackendError(f"expected arrays of one back end, got {sorted(homes)}")
    return (place(a, backend=home) if isinstance(a, Tensor) else a for a in args)


def _backend(arrays: list[Array]) -> Any:
    """Return the back end of the arrays, or None if they have several."""
    found = None
    for array in arrays:
        if type(array) not in SCALARS:
            home = backend_of(array)
            if home is not found and found is not None:
                return None
            found = home
    return found or backend_of(as_array(arrays[0]))


def _explained(
    error: Exception, primitive: Primitive, arrays: list[Array], static: dict[str, Any]
) -> Exception:
    """Return an error of ours that names the operation and what it was given."""
    if any(array is None for array in arrays):
        backend_of(None)  # says that a parameter has no value yet
    if isinstance(error, SillarError | AttributeError):
        return error
    got = ", ".join(map(describe, arrays))
    given = "".join(f", {name}={value!r}" for name, value in static.items())
    kind = DtypeError if isinstance(error, TypeError) else ShapeError
    return kind(f"{primitive.name}: cannot take ({got}{given}): {error}")
