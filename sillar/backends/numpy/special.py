"""Special functions that NumPy lacks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sillar.errors import DtypeError

BLOCK = 16384  # elements per pass: the four arrays in use stay in cache


class _Table(NamedTuple):
    """P and Q, lowest power first, and an |x| from which tanh gives 1."""

    p: tuple[float, ...]
    q: tuple[float, ...]
    end: float


# Derived by benchmarks/derive_erf.py. No coefficient is negative: nothing cancels.
_TABLES = {
    np.dtype(np.float32): _Table(
        (
            0.12837916708933353,
            0.12296767921294238,
            0.019021739751239178,
            0.001872697602768464,
        ),
        (
            1.0,
            0.15730799977205773,
            0.023867441887784144,
            0.00033037877784376183,
        ),
        5.0,
    ),
    np.dtype(np.float64): _Table(
        (
            0.1283791670955126,
            0.14854611398736767,
            0.04898814083976678,
            0.011335985335883012,
            0.0016343277652290072,
            0.00017556198070212364,
            1.2637219721339516e-05,
            6.856766431423235e-07,
            2.5429710056891484e-08,
            5.878231995155895e-10,
            1.571117048558672e-12,
        ),
        (
            1.0,
            0.3565493663888063,
            0.09778711900589028,
            0.015196077860337507,
            0.001861154653694548,
            0.00014549806136994874,
            9.076317639685846e-06,
            3.652854552442478e-07,
            1.1315046899240687e-08,
            9.781226976660238e-11,
        ),
        6.5,
    ),
}


def erf(x: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the error function of every element, in the shape and dtype of `x`.

    erf(x) = tanh(x + x P(x^2) / Q(x^2)), to about one unit in the last place, for
    float32 and float64; float16 is computed in float32.
    """
    x = np.asarray(x)
    if x.dtype == np.float16:
        half = erf(x.astype(np.float32)).astype(np.float16)
        return half if out is None else _copied(half, out)
    if x.dtype not in _TABLES:
        raise DtypeError(
            f"erf: expected float16, float32 or float64, got {x.dtype};"
            " convert with astype first"
        )
    table = _TABLES[x.dtype]
    if out is None:
        out = np.empty(x.shape, x.dtype)
    elif not out.flags.c_contiguous:
        return _copied(erf(x), out)
    source, result = x.reshape(-1), out.reshape(-1)
    with np.errstate(under="ignore", invalid="ignore"):  # tiny values, signalling NaN
        for start in range(0, x.size, BLOCK):
            part = slice(start, start + BLOCK)
            _erf_block(source[part], table, result[part])
    return out


def _copied(x: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
    out[...] = x
    return out


def _erf_block(x: NDArray[Any], table: _Table, out: NDArray[Any]) -> None:
    """Write erf(x) to `out`, which may be `x` itself."""
    np.clip(x, -table.end, table.end, out=out)
    square = out * out
    ratio = _polynomial(table.p, square)
    ratio /= _polynomial(table.q, square)
    ratio *= out
    out += ratio
    np.tanh(out, out=out)


def _polynomial(coefficients: tuple[float, ...], t: NDArray[Any]) -> NDArray[Any]:
    """Return the sum of coefficients[k] * t**k by Horner's rule."""
    total = t * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        total += coefficient
        total *= t
    total += coefficients[0]
    return total
