"""Special functions that NumPy lacks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sillar.backends.numpy.scratch import take
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


# Of atanh(2 P(N < x) - 1) / x for float32, derived there as well. The highest power
# decides beyond 6, and has the sign that leads to 1.
_NORMAL = (
    0.7978848894397531,
    0.0363331833091944,
    -3.2609491031002614e-05,
    -5.5331109184640925e-05,
    3.974127747579555e-06,
    -1.3335239144080537e-07,
    1.7954298483777053e-09,
)


def erf(x: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the error function of every element, in the shape and dtype of `x`.

    erf(x) = tanh(x + x P(x^2) / Q(x^2)), to about one unit in the last place, for
    float32 and float64; float16 is computed in float32.
    """
    return _in_blocks(_erf_block, "erf", x, out)


def normal_cdf(x: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return P(N < x) of a standard normal N for every element, as `erf` does.

    It is (1 + erf(x / sqrt(2))) / 2, in float32 (1 + tanh(x P(x^2))) / 2, to 1.2e-7.
    """
    return _in_blocks(_cdf_block, "normal_cdf", x, out)


def normal_pdf(x: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return exp(-x^2 / 2) / sqrt(2 pi) for every element, as `erf` does."""
    return _in_blocks(_pdf_block, "normal_pdf", x, out)


def _in_blocks(
    kernel: Callable[[NDArray[Any], NDArray[Any]], None],
    name: str,
    x: NDArray[Any],
    out: NDArray[Any] | None,
) -> NDArray[Any]:
    """Let the kernel write its function of each block of `x` to that of the result."""
    x = np.asarray(x)
    if x.dtype == np.float16:
        wide = _in_blocks(kernel, name, x.astype(np.float32), None)
        return _copied(wide, np.empty(x.shape, x.dtype) if out is None else out)
    if x.dtype not in _TABLES:
        raise DtypeError(
            f"{name}: expected float16, float32 or float64, got {x.dtype};"
            " convert with astype first"
        )
    if out is None:
        out = np.empty(x.shape, x.dtype)
    elif not out.flags.c_contiguous:
        return _copied(_in_blocks(kernel, name, x, None), out)
    source, result = x.reshape(-1), out.reshape(-1)
    with np.errstate(under="ignore", over="ignore", invalid="ignore"):
        for start in range(0, x.size, BLOCK):
            part = slice(start, start + BLOCK)
            kernel(source[part], result[part])
    return out


def _copied(x: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
    out[...] = x
    return out


def _erf_block(x: NDArray[Any], out: NDArray[Any]) -> None:
    """Write erf(x) to `out`, which may be `x` itself."""
    table = _TABLES[x.dtype]
    np.clip(x, -table.end, table.end, out=out)
    square = _square(out)
    ratio = _polynomial(table.p, square, "special.p")
    ratio /= _polynomial(table.q, square, "special.q")
    ratio *= out
    out += ratio
    np.tanh(out, out=out)


def _cdf_block(x: NDArray[Any], out: NDArray[Any]) -> None:
    """Write P(N < x) to `out`, which may be `x` itself."""
    if x.dtype == np.float64:
        _erf_block(np.multiply(x, math.sqrt(0.5), out=out), out)
    else:
        total = _polynomial(_NORMAL, _square(x), "special.p")
        np.tanh(np.multiply(total, x, out=total), out=out)
    out += 1.0
    out *= 0.5


def _pdf_block(x: NDArray[Any], out: NDArray[Any]) -> None:
    """Write exp(-x^2 / 2) / sqrt(2 pi) to `out`, which may be `x` itself."""
    np.multiply(x, x, out=out)
    out *= -0.5
    np.exp(out, out=out)
    out *= 1.0 / math.sqrt(2.0 * math.pi)


def _square(x: NDArray[Any]) -> NDArray[Any]:
    """Return x^2 where a register's load starts, which a new array need not."""
    square: NDArray[Any] = take("special.square", x.shape, x.dtype)
    np.multiply(x, x, out=square)
    return square


def _polynomial(
    coefficients: tuple[float, ...], t: NDArray[Any], name: str
) -> NDArray[Any]:
    """Return the sum of coefficients[k] * t**k by Horner's rule, in scratch memory."""
    total: NDArray[Any] = take(name, t.shape, t.dtype)
    np.multiply(t, coefficients[-1], out=total)
    for coefficient in coefficients[-2:0:-1]:
        total += coefficient
        total *= t
    total += coefficients[0]
    return total
