"""Matrix products and Einstein sums."""

from __future__ import annotations

from typing import Any

from sillar.backends import Array
from sillar.core.ops.shape import broadcast_to, reshape, transpose
from sillar.core.tape import primitive
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, ShapeError


@primitive
def matmul(xp: Any, a: Array, b: Array) -> Array:
    """Matrix product over the last two axes: (..., n, k) @ (..., k, m)."""
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            "matmul: expected (..., n, k) @ (..., k, m), got"
            f" {tuple(a.shape)} @ {tuple(b.shape)}: the inner sizes must be equal"
        )
    return xp.matmul(a, b)


def swap(x: Tensor) -> Tensor:
    """Return x with its last two axes exchanged."""
    n = x.ndim
    return transpose(x, axes=(*range(n - 2), n - 1, n - 2))


matmul.defvjp(
    lambda g, y, a, b: matmul(g, swap(b)),
    lambda g, y, a, b: matmul(swap(a), g),
)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b as in NumPy: vectors too; one matrix for a stack is one product."""
    if a.ndim == 1 and b.ndim >= 1:
        y = product(reshape(a, shape=(1, a.shape[0])), b)
        return reshape(y, shape=y.shape[:-2] + y.shape[-1:] if b.ndim > 1 else ())
    if b.ndim == 1 and a.ndim > 1:
        y = product(a, reshape(b, shape=(b.shape[0], 1)))
        return reshape(y, shape=y.shape[:-1])
    if b.ndim == 2 and a.ndim > 2 and a.shape[-1] == b.shape[0]:
        rows = reshape(a, shape=(_count(a.shape[:-1]), a.shape[-1]))
        return reshape(matmul(rows, b), shape=a.shape[:-1] + b.shape[1:])
    return matmul(a, b)


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


@primitive
def einsum_(xp: Any, *operands: Array, subscripts: str) -> Array:
    """Return the Einstein sum `subscripts`, with letters and an explicit output."""
    return xp.einsum(subscripts, *operands)


def _einsum_rule(
    i: int, g: Tensor, y: Tensor, *operands: Any, subscripts: str
) -> Tensor:
    left, output = subscripts.split("->")
    terms = left.split(",")
    own, others = terms[i], terms[:i] + terms[i + 1 :]
    reachable = set(output).union(*others)
    kept = "".join(letter for letter in own if letter in reachable)
    rest = [x for j, x in enumerate(operands) if j != i]
    dx = einsum_(g, *rest, subscripts=f"{','.join([output, *others])}->{kept}")
    if kept != own:  # letters summed out of this operand alone: repeat along them
        x = operands[i]
        shape = tuple(
            n if letter in reachable else 1
            for letter, n in zip(own, x.shape, strict=True)
        )
        dx = broadcast_to(reshape(dx, shape=shape), shape=x.shape)
    return dx


einsum_.defvjp_each(_einsum_rule)


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """Return the Einstein sum of the operands, as in `einsum("ij,jk->ik", a, b)`.

    The output is explicit; a letter stands at most once in each term.
    """
    plain = subscripts.replace(" ", "")
    left, arrow, output = plain.partition("->")
    terms = left.split(",")
    letters = set(left.replace(",", ""))
    if not arrow or len(terms) != len(operands):
        raise ConfigError(
            f"einsum: expected {len(operands)} terms and an output, as in 'ij,jk->ik',"
            f" got {subscripts!r}"
        )
    if not all(t.isalpha() or t == "" for t in (*terms, output)) or any(
        len(set(t)) != len(t) for t in (*terms, output)
    ):
        raise ConfigError(
            "einsum: expected letters, each at most once in a term, got"
            f" {subscripts!r}: write a diagonal or an ellipsis out"
        )
    if not set(output) <= letters:
        raise ConfigError(
            f"einsum: every letter of the output must be in a term, got {subscripts!r}"
        )
    return einsum_(*operands, subscripts=plain)
