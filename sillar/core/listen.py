"""Listeners at the waist: they know what is computed without being part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from sillar.backends import Array
from sillar.core.state import recording
from sillar.core.tensor import Tensor


class Listener:
    """Is told of every primitive's call in this thread, within a `with` block.

    Override the methods whose news you want. They compute on raw arrays, or they
    would hear themselves. The call is not theirs to change, but an exception that they
    raise ends it.
    """

    def before(
        self, primitive: Any, args: Sequence[Any], static: dict[str, Any]
    ) -> None:
        """Hear that `primitive` is about to be called with tensors and numbers."""

    def after(
        self,
        primitive: Any,
        args: Sequence[Any],
        arrays: Sequence[Array],
        static: dict[str, Any],
        out: Tensor,
    ) -> None:
        """Hear what came out; `arrays` are the raw values of `args`."""

    def before_effect(self, function: Any, arrays: Sequence[Array]) -> None:
        """Hear that `function(*arrays)` is about to do what no primitive does.

        Such as an optimizer's update, or a new running mean.
        """

    def after_effect(self, function: Any, arrays: Sequence[Array]) -> None:
        """Hear that it is done."""

    def __enter__(self) -> Self:
        recording.listeners = (*recording.listeners, self)
        return self

    def __exit__(self, *exception: object) -> None:
        recording.listeners = tuple(x for x in recording.listeners if x is not self)
