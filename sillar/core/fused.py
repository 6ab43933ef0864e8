"""Fast gradient kernels, with the rules of the form they replace.

A kernel that computes one gradient of a composed function is a primitive like any
other. Its own rules are those of the composed form, differentiated twice, so nothing
stops at the first order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sillar.core.dtypes import SCALARS, is_floating
from sillar.core.grad import grad
from sillar.core.ops.shape import reshape
from sillar.core.state import recording
from sillar.core.tape import Primitive, enable_grad
from sillar.core.tensor import Tensor, wrap


def as_composed(kernel: Primitive, composed: Callable[..., Tensor], place: int) -> None:
    """Give `kernel` the rules of the gradient of composed(*inputs) at input `place`.

    The kernel takes (g, *inputs, *saved): a gradient at the output, the inputs of
    `composed`, and what the forward saved, as many as the caller likes. A value that
    was saved is no input of the function, and has no gradient.
    """
    count = composed.__code__.co_argcount

    def rule(i: int, u: Tensor, y: Tensor, g: Tensor, *rest: Any, **static: Any) -> Any:
        if i > count:
            return None
        differentiate = recording.on
        with enable_grad():
            given = [_own(x, differentiate) for x in (g, *rest[:count])]
            out = composed(*given[1:], **static)
            dx = grad(out, given[place + 1], cotangents=given[0], create_graph=True)
        return grad(dx, given[i], cotangents=u, create_graph=differentiate)

    kernel.defvjp_each(rule)


def _own(x: Any, linked: bool) -> Any:
    """Return a tracked tensor of its own for x, tied to x's own graph if `linked`."""
    if isinstance(x, SCALARS):
        return x
    if linked and x.requires_grad:
        return reshape(x, shape=x.shape)
    out = wrap(x.data)
    out.requires_grad = is_floating(out.data)
    return out
