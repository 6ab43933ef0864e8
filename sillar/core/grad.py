"""Gradients: walk the recorded calls backwards, and do it again for higher orders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sillar.backends import backend_of
from sillar.core.ops.reduce import sum_
from sillar.core.ops.shape import astype, reshape
from sillar.core.state import recording
from sillar.core.tape import enable_grad, no_grad
from sillar.core.tensor import Tensor, wrap
from sillar.errors import GradientError, ShapeError


def grad(
    outputs: Any, inputs: Any, *, cotangents: Any = None, create_graph: bool = False
) -> Any:
    """Return the gradients of `outputs` for `inputs`, in the structure of `inputs`.

    `outputs` is a scalar tensor, or one tensor or several with `cotangents` of the
    same shapes (the vector of a vector-Jacobian product). `inputs` is a tensor, or a
    list, tuple or mapping of them; an input that the outputs do not depend on has a
    gradient of zeros. With `create_graph=True` the gradients can be differentiated.
    """
    targets, rebuild = _flatten(inputs, "inputs")
    roots, _ = _flatten(outputs, "outputs")
    for i, target in enumerate(targets):
        if not target.requires_grad:
            raise GradientError(
                f"grad: input {i}, shape {target.shape}, was not tracked: make it with"
                " Tensor(..., requires_grad=True) before computing the outputs"
            )
    with enable_grad() if create_graph else no_grad():
        found = _pull(roots, _seeds(roots, outputs, cotangents), targets)
        return rebuild([_or_zeros(found.get(id(t)), t) for t in targets])


def backward(loss: Tensor) -> None:
    """Set `.grad` of every variable that the scalar `loss` was computed from.

    A gradient from an earlier call is replaced, not added to.
    """
    tape = recorded([loss])
    inputs = (x for y in tape for x in y.node.inputs)  # type: ignore[union-attr]
    leaves = {
        id(x): x
        for x in inputs
        if isinstance(x, Tensor) and x.requires_grad and x.node is None
    }
    if not leaves:
        raise GradientError(
            "backward: the loss was not computed from any variable: make one with"
            " Tensor(..., requires_grad=True), and compute outside no_grad()"
        )
    gradients = grad(loss, list(leaves.values()))
    for leaf, gradient in zip(leaves.values(), gradients, strict=True):
        leaf.grad = gradient


def recorded(roots: Iterable[Tensor]) -> list[Tensor]:
    """Return the tensors with a node that `roots` need, in the order of their calls."""
    seen: dict[int, Tensor] = {}
    stack = list(roots)
    while stack:
        y = stack.pop()
        if y.node is None or id(y) in seen:
            continue
        seen[id(y)] = y
        stack.extend(x for x in y.node.inputs if isinstance(x, Tensor))
    return sorted(seen.values(), key=lambda y: y.node.order)  # type: ignore[union-attr]


def _pull(
    roots: Sequence[Tensor], seeds: Sequence[Tensor], targets: Sequence[Tensor]
) -> dict[int, Tensor]:
    """Return the gradient of each target that was reached, by its id."""
    wanted = {id(t) for t in targets}
    tape = recorded(roots)
    active = _leading_to(tape, wanted)
    grads: dict[int, Tensor] = {}
    for root, seed in zip(roots, seeds, strict=True):
        _accumulate(grads, root, seed)
    outer = recording.differentiated
    try:
        while tape:
            y = tape.pop()
            g = grads.get(id(y)) if id(y) in wanted else grads.pop(id(y), None)
            if g is None or id(y) not in active or y.node is None:
                continue
            recording.differentiated = y
            inputs = y.node.inputs
            places = [i for i, x in enumerate(inputs) if id(x) in active]
            parts = y.node.primitive.gradients(places, g, y)
            for i, part in zip(places, parts, strict=True):
                if part is not None:
                    _accumulate(grads, inputs[i], _fitted(part, inputs[i]))
    finally:
        recording.differentiated = outer
    return grads


def _leading_to(tape: Sequence[Tensor], wanted: set[int]) -> set[int]:
    """Return the ids of the targets and of every tensor computed from one."""
    active = set(wanted)
    for y in tape:
        for x in y.node.inputs:  # type: ignore[union-attr]
            if id(x) in active:
                active.add(id(y))
                break
    return active


def _accumulate(grads: dict[int, Tensor], x: Tensor, g: Tensor) -> None:
    before = grads.get(id(x))
    grads[id(x)] = g if before is None else before + g


def _fitted(g: Tensor, x: Tensor) -> Tensor:
    """Undo broadcasting and casting: return g with the shape and type of x."""
    shape = x.data.shape
    if g.data.shape != shape:
        extra = g.ndim - len(shape)
        axes = tuple(i + extra for i, n in enumerate(shape) if n == 1)
        g = sum_(g, axis=(*range(extra), *axes))
        if axes:
            g = reshape(g, shape=tuple(shape))
    return g if g.dtype == x.dtype else astype(g, dtype=x.dtype)


def _or_zeros(g: Tensor | None, x: Tensor) -> Tensor:
    return wrap(backend_of(x.data).zeros_like(x.data)) if g is None else g


def _seeds(roots: Sequence[Tensor], outputs: Any, cotangents: Any) -> list[Tensor]:
    if cotangents is None:
        for root in roots:
            if root.size != 1:
                raise GradientError(
                    f"grad: expected a scalar output, got shape {root.shape}: reduce"
                    " it, as in loss.sum(), or give cotangents of that shape"
                )
        return [wrap(backend_of(root.data).ones_like(root.data)) for root in roots]
    if isinstance(outputs, Mapping) and isinstance(cotangents, Mapping):
        if set(outputs) != set(cotangents):
            raise GradientError(
                f"grad: expected cotangents for {list(outputs)}, got {list(cotangents)}"
            )
        cotangents = {name: cotangents[name] for name in outputs}
    seeds, _ = _flatten(cotangents, "cotangents")
    if [s.shape for s in seeds] != [r.shape for r in roots]:
        raise ShapeError(
            f"grad: expected cotangents of shapes {[r.shape for r in roots]},"
            f" got {[s.shape for s in seeds]}"
        )
    return [_fitted(seed, root) for seed, root in zip(seeds, roots, strict=True)]


def _flatten(value: Any, role: str) -> tuple[list[Tensor], Callable[[list[Any]], Any]]:
    """Return the tensors in `value` and how to put their likes in its structure."""
    if isinstance(value, Tensor):
        return [value], lambda parts: parts[0]
    if isinstance(value, Mapping):
        names = list(value)
        parts, _ = _flatten(list(value.values()), role)
        return parts, lambda new: dict(zip(names, new, strict=True))
    if isinstance(value, list | tuple):
        for part in value:
            if not isinstance(part, Tensor):
                raise GradientError(
                    f"grad: expected tensors as {role}, got {type(part).__name__}"
                )
        return list(value), type(value)
    raise GradientError(
        f"grad: expected a tensor, list, tuple or mapping of tensors as {role},"
        f" got {type(value).__name__}"
    )
