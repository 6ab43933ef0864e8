"""A step of a run with its update: one program on a device, which nothing waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sillar.backends import backend_of
from sillar.core.compile import Compiled
from sillar.core.ops import equal, where
from sillar.core.parameter import Buffer
from sillar.core.rng import Rng
from sillar.core.tensor import Tensor
from sillar.errors import CompileError
from sillar.optim import Optimizer
from sillar.train.step import Step


class Whole:
    """A function (x, y, rng) that trains, and returns what tells loss and outputs.

    A step whose loss is not finite moves nothing, nor does any after it: the device
    itself sees to that (`alive`), so that the loss can be read when the next step is
    already under way. The optimizer counts these steps; whoever reads the loss corrects
    that.
    """

    def __init__(self, step: Step, optimizer: Optimizer) -> None:
        self.step, self.optimizer = step, optimizer
        self.alive = Buffer((), lambda *_: None)
        home = backend_of(step.params.vector)
        self.alive.data = home.ones((), dtype="float32")
        self.renew()

    def renew(self) -> None:
        """Trace the step anew: something in the model may have been set since."""
        self.compiled = Compiled(self.plain, rewrite=_as_it_is)

    def __call__(self, x: Any, y: Any, rng: Rng) -> Callable[[], tuple[float, Any]]:
        """Do the step; what is returned waits for its loss and outputs."""
        try:
            loss, outputs = self.compiled(x, y, rng)
        except CompileError as error:
            self.step.refuse(str(error))
            loss, outputs = self.plain(x, y, rng)
        return lambda: (loss.item(), outputs.numpy())

    def plain(self, x: Any, y: Any, rng: Rng) -> tuple[Tensor, Tensor]:
        """Do the same, uncompiled."""
        moved = (*self.step.buffers, self.alive)
        before = [buffer * 1 for buffer in moved[:-1]]
        loss, outputs, gradient = self.step.plain(x, y, rng)
        self.alive.assign(where(equal(loss - loss, 0.0), self.alive * 1, 0.0))
        good = equal(self.alive, 1.0)
        for buffer, old in zip(moved, before, strict=False):
            buffer.assign(where(good, buffer, old))
        self.optimizer.step(gradient, where=good)
        return loss, outputs


def whole(step: Step, optimizer: Optimizer) -> Whole | None:
    """Return the step with its update if both can be one program."""
    pure = all(transform.pure for transform in optimizer.transforms)
    return Whole(step, optimizer) if step.on_device and pure else None


def _as_it_is(trace: Any, backend: Any) -> None:
    """Change nothing; then the first call is a replay, too: tracing moves nothing."""
