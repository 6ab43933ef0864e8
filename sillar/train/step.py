"""The gradient step of a run, compiled where it can be."""

from __future__ import annotations

from typing import Any

import numpy as np

from sillar.backends import backend_of
from sillar.core.compile import Compiled
from sillar.core.grad import grad
from sillar.core.parameter import Parameters
from sillar.core.rng import Rng
from sillar.core.tape import place
from sillar.core.tensor import Tensor, wrap
from sillar.errors import CompileError, ConfigError, GradientError
from sillar.nn import Layer, Loss
from sillar.nn.architecture import CONTAINERS, LAYERS
from sillar.optim import LossScale
from sillar.train.evaluate import compute_loss, layers_of
from sillar.train.precision import note, rewriting


class Step:
    """A function (x, y, rng) -> loss, outputs and gradient, one vector.

    With `compiled` None it is compiled if every part is Sillar's own, so that no
    Python of a user's layer is frozen unseen. What cannot be compiled is run as it
    stands, and `eager_because` says why. A `precision` of 16 bits needs a compiled
    step. With a `scale` the gradient is that of so many times the loss.
    """

    def __init__(
        self,
        model: Layer,
        loss: Loss,
        params: Parameters,
        *,
        compiled: bool | None,
        precision: str = "float32",
        scale: LossScale | None = None,
    ) -> None:
        self.model, self.loss, self.params = model, loss, params
        self.buffers = tuple(model.buffers().values())
        self.eager_because = ""
        if compiled is None:
            self.eager_because = _foreign(model, loss)
            compiled = not self.eager_because
        self.precision, self.scale = precision, scale
        self.rewrite = rewriting(precision)
        self.note = note(precision, backend_of(params.vector)) if params else ""
        self.whole: Any = None  # the step with its update, where that is one program
        self._compiled: Compiled | None = None
        if compiled:
            self._compiled = self._anew()
        elif self.rewrite is not None:
            raise self._needs_compiling(self.eager_because or "compiled=False")

    def __call__(self, x: Any, y: Any, rng: Rng, *more: Any) -> Any:
        """Return the loss of the batch, the model's outputs and the gradient.

        They hold until the next call. `more` is for the `plain` of a subclass.
        """
        given: tuple[Any, ...] = (x, y, rng, *more)
        if self.scale is not None:
            given += (np.asarray(self.scale.scale, np.float32),)
        if self._compiled is not None:
            before = self.copies()
            try:
                return self._compiled(*given)
            except CompileError as error:
                self.refuse(str(error))
                self.put_back(before)
                if self.rewrite is not None:
                    raise self._needs_compiling(str(error)) from None
        return self.plain(*given)

    def renew(self) -> None:
        """Trace the step anew: something in the model may have been set since."""
        if self._compiled is not None:
            self._compiled = self._anew()
        if self.whole is not None:
            self.whole.renew()

    @property
    def on_device(self) -> bool:
        """Say whether the step is compiled as it stands for a device beside Python."""
        compiled = self._compiled is not None and self.rewrite is None
        alone = type(self) is Step and bool(self.params)
        return compiled and alone and not backend_of(self.params.vector).on_host

    def refuse(self, why: str) -> None:
        """Run as it stands from now on."""
        self._compiled, self.whole, self.eager_because = None, None, why

    def _anew(self) -> Compiled:
        return Compiled(self.plain, reuse=True, rewrite=self.rewrite)

    def _needs_compiling(self, why: str) -> ConfigError:
        return ConfigError(
            f"fit: precision={self.precision!r} needs a compiled step, but: {why}"
        )

    def plain(
        self, x: Any, y: Any, rng: Rng, scale: Any = None
    ) -> tuple[Tensor, Tensor, Any]:
        """Do the same, uncompiled."""
        if self.params:
            home = backend_of(self.params.vector).name
            x, y = place(x, backend=home), place(y, backend=home)
            scale = None if scale is None else place(scale, backend=home)
        outputs = self.model(x, rng=rng)
        loss = compute_loss(self.loss, outputs, y)
        if self.params and not loss.requires_grad:
            raise GradientError(
                f"fit: the loss does not depend on any of {list(self.params)}: forward"
                " must stay within tensor operations, not NumPy's"
            )
        scale = self.scaling(loss, outputs, y, scale)
        gradient = self.params.pack(grad(loss, self.params, cotangents=scale))
        return loss, outputs, wrap(gradient)

    def scaling(self, loss: Tensor, outputs: Tensor, y: Any, scale: Any) -> Any:
        """Return how many times the loss the gradient is that of; None is once."""
        return scale

    def copies(self) -> list[Any]:
        """Return copies of what a step moves beside the parameters."""
        return [backend_of(b.data).copy(b.data) for b in self.buffers]

    def put_back(self, copies: list[Any]) -> None:
        """Undo what a step did to the buffers."""
        for buffer, copy in zip(self.buffers, copies, strict=True):
            buffer.assign(copy)


def _foreign(model: Layer, loss: Loss) -> str:
    """Return why the step is not compiled unasked, or nothing."""
    known = {*LAYERS.values(), *CONTAINERS.values()}
    parts: list[Any] = [part for part in layers_of(model) if type(part) not in known]
    parts += [loss] if type(loss).__module__.partition(".")[0] != "sillar" else []
    if not parts:
        return ""
    return (
        f"{type(parts[0]).__name__} is not Sillar's own: pass compiled=True if its"
        " Python does the same at every step"
    )
