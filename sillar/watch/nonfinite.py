"""The first operation that makes a NaN or an infinity: its layer, line and inputs."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, Self
from weakref import WeakValueDictionary

import numpy as np

from sillar.backends import Array, backend_of
from sillar.core import ops
from sillar.core.dtypes import SCALARS, describe, is_floating
from sillar.core.listen import Listener
from sillar.core.parameter import Parameter
from sillar.core.tape import Primitive
from sillar.core.tensor import Tensor
from sillar.errors import NonFiniteError
from sillar.nn import Layer
from sillar.watch.replay import save_call
from sillar.watch.where import Places

_ELEMENTWISE = ops.add.forward.__module__  # where an element depends on its own place
_GUARDED = ("divide", "log", "log1p", "logsumexp", "power", "sqrt")  # have bad inputs


def find_nonfinite(
    model: Layer | None = None,
    *,
    path: str | os.PathLike[str] = "nonfinite.npz",
    infinities: bool = True,
) -> Listener:
    """Within a `with` block, raise NonFiniteError at the first NaN or infinity.

    The error names the operation that made it, its layer (below `model`) and the line,
    on the way there or back; its inputs are saved at `path` for `replay`. It ends the
    step, so that no optimizer moves the weights or its own state.

    An infinite number in the program and -inf in an array from outside count as masks:
    they and what follows from them pass, until they make a NaN. NaN or inf in an array
    from outside, and any in a parameter, are named as given, not made. With
    `infinities=False` only NaN counts.
    """
    return _Finder(model, os.fspath(path), infinities)


class _Finder(Listener):
    def __init__(self, model: Layer | None, path: str, infinities: bool) -> None:
        self.model, self.path, self.infinities = model, path, infinities
        self.places = Places(model)
        self.infinite: WeakValueDictionary[int, Tensor] = WeakValueDictionary()

    def __enter__(self) -> Self:
        self.quiet = np.errstate(over="ignore", divide="ignore", invalid="ignore")
        self.quiet.__enter__()  # the error says more than a warning
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self.quiet.__exit__(*exception)

    def after(self, primitive, args, arrays, static, out):
        """Raise if the output holds what is not finite and no mask explains it."""
        where = self.places.here(out)
        if not is_floating(out.data) or _is_finite(out.data):
            return
        values = [a if type(a) in SCALARS else _numpy(a) for a in arrays]
        fault = self._given(args, values)
        if not fault:
            fault = self._made(primitive, values, static, _numpy(out.data))
        if not fault:
            self.infinite[id(out)] = out  # what follows from a mask is none of its own
            return
        saved = _save(self.path, primitive, arrays, static)
        got = ", ".join(map(_range, values))
        raise NonFiniteError(f"{primitive.name} of {got}: {fault}; {where}; {saved}")

    def _given(self, args: Sequence[Any], values: Sequence[Any]) -> str:
        """Return which input was not finite before any call heard, and what to do."""
        for i, (arg, value) in enumerate(zip(args, values, strict=True)):
            count = _count(np.isnan, value)
            if self.infinities and not isinstance(arg, (*SCALARS,)):
                known = self.infinite.get(id(arg)) is arg
                weight = isinstance(arg, Parameter)
                count += 0 if known else _count(np.isinf if weight else _is_plus, value)
            if count:
                name, advice = self._name(arg)
                what = f"{count} of its values" if count > 1 else "a value"
                return f"{what} in input {i}{name} was not finite already: {advice}"
        return ""

    def _name(self, arg: Any) -> tuple[str, str]:
        if not isinstance(arg, Parameter):
            return ", given from outside,", "clean the data that it comes from"
        named = self.model.parameters().items() if self.model else ()
        path = next((path for path, p in named if p is arg), f"of shape {arg.shape}")
        return f", parameter {path},", "go back to weights from before that"

    def _made(
        self,
        primitive: Primitive,
        values: Sequence[Any],
        static: dict[str, Any],
        out: Any,
    ) -> str:
        """Return what the call made that was not in its inputs, and what to do."""
        nan, infinite = np.isnan(out), np.isinf(out)
        masked = any(_count(np.isinf, value) for value in values)
        if primitive.forward.__module__ == _ELEMENTWISE:
            for value in values:
                infinite = infinite & ~np.isinf(value)
        elif masked or any(map(_is_infinite_number, static.values())):
            infinite = np.zeros(1, bool)
        parts = [f"{int(nan.sum()):,} NaN"] if nan.any() else []
        if self.infinities and infinite.any():
            parts.append(f"{int(infinite.sum()):,} infinite")
        if not parts:
            return ""
        made = f"{' and '.join(parts)} of {out.size:,} values in its output"
        if masked:
            return f"{made}, from infinities such as a mask's: leave a finite value"
        if primitive.name in _GUARDED:
            return f"{made}: keep its inputs away from where it is not defined"
        return f"{made}: lower the learning rate, or clip gradients with ClipNorm"


def _save(path: str, primitive: Any, arrays: Sequence[Any], static: Any) -> str:
    try:
        save_call(path, primitive, arrays, static)
    except OSError as error:
        return f"its inputs could not be saved at {path!r}: {error.strerror or error}"
    return f"sillar.watch.replay({path!r}) calls it again"


def _is_finite(array: Array) -> bool:
    xp = backend_of(array)
    return bool(xp.all(xp.isfinite(array)))


def _numpy(array: Array) -> Any:
    return backend_of(array).to_numpy(array)


def _count(test: Any, value: Any) -> int:
    return int(np.sum(test(value)))


def _is_plus(value: Any) -> Any:
    return np.equal(value, np.inf)


def _is_infinite_number(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)


def _range(value: Any) -> str:
    """Return type, shape and range of an input, as "float32 (4, 2) from -1 to 3"."""
    if type(value) in SCALARS or not value.size or value.dtype.kind not in "fiu":
        return describe(value)
    low, high = np.nanmin(value), np.nanmax(value)
    return f"{describe(value)} from {low:.3g} to {high:.3g}"
