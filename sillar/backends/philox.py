"""Random words from a key and a place, in plain arithmetic on arrays of int64.

So a device draws without waiting for the host, and equal keys give equal draws on all.
"""

from __future__ import annotations

from typing import Any

Array = Any  # whole numbers of 64 bits, whose products wrap around

WORD = (1 << 32) - 1
ROUNDS = 10


def philox(low: Array, high: Array, places: Array) -> tuple[Array, ...]:
    """Return four arrays of 32-bit words for `places`, from the two words of a key.

    Philox 4x32-10 (Salmon et al. 2011): `low` is the key, `high` the upper half of the
    counter.
    """
    k0, k1 = low & WORD, (low >> 32) & WORD
    c0, c1 = places & WORD, (places >> 32) & WORD
    c2, c3 = high & WORD, (high >> 32) & WORD
    for _ in range(ROUNDS):
        p, q = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c2 = ((q >> 32) & WORD) ^ c1 ^ k0, ((p >> 32) & WORD) ^ c3 ^ k1
        c1, c3 = q & WORD, p & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


def fraction(upper: Array, lower: Array) -> Array:
    """Return whole numbers of 53 bits over 2^53, from two words each: in [0, 1)."""
    return ((upper >> 5) * (1 << 26) + (lower >> 6)) * 2.0**-53
