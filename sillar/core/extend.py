"""How users add what the core does not have: a function with its own gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sillar.core.tape import Node, Primitive, no_grad, recording
from sillar.core.tensor import Tensor, wrap
from sillar.errors import GradientError, ShapeError


class _Custom(Primitive):
    """One call of a function whose gradient is given instead of derived."""

    def __init__(self, name: str, backward: Callable[..., Sequence[Any]]) -> None:
        super().__init__(backward)
        self.name = name
        self.backward = backward
        self._latest: tuple[Tensor, tuple[Tensor, ...]] | None = None

    def gradient(self, i: int, g: Tensor, y: Tensor) -> Any:
        """Return gradient `i`; all are computed at once and used one after another."""
        if self._latest is None or self._latest[0] is not g:
            assert y.node is not None
            self._latest = g, self._checked(self.backward(g), y.node.inputs)
        gradient = self._latest[1][i]
        if i == self._last(y):
            self._latest = None
        return gradient

    def _last(self, y: Tensor) -> int:
        assert y.node is not None
        return len(y.node.inputs) - 1

    def _checked(self, gradients: Any, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        parts = gradients if isinstance(gradients, tuple | list) else (gradients,)
        if len(parts) != len(inputs):
            raise GradientError(
                f"{self.name}: backward must return {len(inputs)} gradients, one per"
                f" input and then one per parameter, got {len(parts)}"
            )
        for i, (part, x) in enumerate(zip(parts, inputs, strict=True)):
            if tuple(part.shape) != x.shape:
                raise ShapeError(
                    f"{self.name}: backward must return shape {x.shape} as gradient"
                    f" {i}, got {tuple(part.shape)}"
                )
        return tuple(parts)


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
