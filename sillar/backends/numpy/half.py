"""Numbers in 16 bits that are only stored; NumPy computes with their 32-bit selves.

NumPy has no bfloat16: it is the upper half of a float32, kept as uint16. It has
float16, but converts it number by number; whole arrays of bits take a fraction of that
(Giesen 2012). Both ways a NaN may become an infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sillar.backends.base import Array
from sillar.backends.numpy.scratch import take

TYPES = {"bfloat16": np.dtype(np.uint16), "float16": np.dtype(np.float16)}
BLOCK = 1 << 16  # elements: what a block needs stays in the L2 cache
UP = np.float32(2.0**112)  # how far apart the exponents of both types are
DOWN = np.float32(2.0**-112)
END = np.float32(2.0**-96)  # what is infinite in float16, taken down


def half(name: str) -> Any:
    """Return the data type in which numbers are stored."""
    return TYPES[name]


def narrow(x: Array, dtype: str) -> Array:
    """Return `x` rounded to "bfloat16" or "float16"."""
    out = np.empty(x.shape, TYPES[dtype])
    narrow_into(x, out)
    return out


def widen(x: Array, dtype: Any) -> Array:
    """Return stored numbers as `dtype`."""
    out = np.empty(x.shape, dtype)
    widen_into(x, out)
    return out


def narrow_into(x: Array, out: Array) -> None:
    """Write `x` into `out`, whose data type says how."""
    if x.dtype != np.float32:
        with np.errstate(over="ignore"):
            x = x.astype(np.float32)
    _in_blocks(_to_float16 if out.dtype == np.float16 else _to_bfloat16, x, out)


def widen_into(x: Array, out: Array) -> None:
    """Write stored numbers into `out`."""
    if out.dtype != np.float32:
        np.copyto(out, widen(x, np.float32))
        return
    _in_blocks(_from_float16 if x.dtype == np.float16 else _from_bfloat16, x, out)


def _in_blocks(move: Callable[[Array, Array], None], x: Array, out: Array) -> None:
    if x.size <= BLOCK or not (x.flags.c_contiguous and out.flags.c_contiguous):
        move(x, out)
        return
    x, out = x.reshape(-1), out.reshape(-1)
    for start in range(0, x.size, BLOCK):
        block = slice(start, start + BLOCK)
        move(x[block], out[block])


def _to_bfloat16(x: Array, out: Array) -> None:
    bits = take("bits", x.shape, np.uint32)
    np.add(x.view(np.uint32), 0x8000, out=bits)  # half of the last place that stays
    np.right_shift(bits, 16, out=bits)
    np.copyto(out, bits, casting="unsafe")


def _from_bfloat16(x: Array, out: Array) -> None:
    np.left_shift(x, 16, out=out.view(np.uint32), dtype=np.uint32)


def _to_float16(x: Array, out: Array) -> None:
    """Take the exponent down and shift the bits; the hardware rounds what is tiny."""
    bits, kept = take("bits", x.shape, np.uint32), out.view(np.uint16)
    small = bits.view(np.float32)
    with np.errstate(invalid="ignore"):  # memory that nobody wrote to may be stored
        np.multiply(x, DOWN, out=small)
    high, low = np.max(small, initial=0), np.min(small, initial=0)
    if not (low > -END and high < END):  # NaN, too
        np.clip(small, -END, END, out=small)
        np.copyto(small, END, where=np.isnan(small))
        low = -END
    np.add(bits, 0x1000, out=bits)  # half of the last place that stays
    np.right_shift(bits, 13, out=bits)
    np.copyto(kept, bits, casting="unsafe")
    if low < 0:
        signs = take("signs", x.shape, np.uint16)
        np.right_shift(x.view(np.uint32), 16, out=bits)
        np.copyto(signs, bits, casting="unsafe")
        np.bitwise_and(signs, 0x8000, out=signs)
        np.bitwise_or(kept, signs, out=kept)


def _from_float16(x: Array, out: Array) -> None:
    """Shift the bits and mend the exponent; what overflows on the way is infinite."""
    bits = out.view(np.int32)
    np.left_shift(x.view(np.int16), 13, out=bits, dtype=np.int32)
    np.bitwise_and(bits, -0x70002000, out=bits)  # 0x8FFFE000
    np.multiply(out, UP, out=out)
    with np.errstate(over="ignore"):
        np.multiply(out, UP, out=out)
    np.multiply(out, DOWN, out=out)
