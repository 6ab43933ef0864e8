"""How users add what the core does not have: a function with its own gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sillar.core.state import recording
from sillar.core.tape import Node, Primitive, lift, no_grad
from sillar.core.tensor import Tensor, wrap
from sillar.errors import GradientError, ShapeError


class _Custom(Primitive):
    """One call of a function whose gradient is given instead of derived."""

    def __init__(self, name: str, backward: Callable[..., Sequence[Any]]) -> None:
        super().__init__(backward)
        self.name = name
        self.backward = backward

    def gradients(self, places: list[int], g: Tensor, y: Tensor) -> list[Any]:
        """Return the gradients of the inputs in `places`; all are computed at once."""
        assert y.node is not None
        parts = self._checked(self.backward(g), y.node.inputs)
        return [parts[i] for i in places]

    def _checked(self, gradients: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        parts = gradients if isinstance(gradients, tuple | list) else (gradients,)
        if len(parts) != len(inputs):
            raise GradientError(
                f"{self.name}: backward must return {len(inputs)} gradients, one per"
                f" input and then one per parameter, got {len(parts)}"
            )
        for i, (part, x) in enumerate(zip(parts, inputs, strict=True)):
            if part is None and not x.requires_grad:
                continue  # an input of indices, say
            if part is None or tuple(part.shape) != x.shape:
                got = None if part is None else tuple(part.shape)
                raise ShapeError(
                    f"{self.name}: backward must return shape {x.shape} as gradient"
                    f" {i}, got {got}"
                )
        return tuple(part if part is None else lift(part) for part in parts)


def with_gradient(
    name: str,
    forward: Callable[[], Tensor],
    backward: Callable[[Tensor], Sequence[Tensor]],
    inputs: Sequence[Tensor],
) -> Tensor:
    """Return forward(), whose gradients for `inputs` are what backward(g) returns.

    If `backward` is written in tensor operations, the gradient has gradients too.
    """
    with no_grad():
        y = wrap(forward().data)
    if recording.on and any(x.requires_grad for x in inputs):
        y.requires_grad = True
        y.node = Node(_Custom(name, backward), tuple(inputs), {})
    return y
