"""How much arithmetic a call is, so that nobody starts a thread for little."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

Shape = tuple[int, ...]


def work(name: str, shapes: Sequence[Shape], out: Shape) -> int:
    """Return roughly how many arithmetic operations a call is."""
    if name == "matmul":
        return 2 * prod(out) * shapes[0][-1]
    if name in ("conv", "conv_bias", "conv_weight"):
        return 2 * prod(out) * prod(shapes[1][:3])
    if name == "conv_input":
        return 2 * prod(shapes[0]) * prod(shapes[1][:3])
    if name in ("attention", "attention_slope"):
        return 4 * prod(out) * out[1]
    if name.startswith("recurrent_"):
        x, w = shapes[:2] if name == "recurrent_keep" else shapes[1:3]
        short = x[-1] < 256  # many short calls, for which threads wait for each other
        return 0 if short else 2 * prod(w) * x[0] * x[-1]
    return 0 if name in ("reshape", "transpose", "broadcast_to") else 10 * prod(out)
