"""Random words in plain arithmetic, against the authors' own known answers."""

import numpy as np
import pytest

from sillar.backends.philox import fraction, philox

# Random123's kat_vectors of philox4x32-10: counter (4 words), key (2 words), answer.
ONES = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
KNOWN = {
    "zeros": ((0,) * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    "ones": ((ONES,) * 4, (ONES, ONES), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    "pi": (PI, (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
}


def words(*halves):
    """Return 64 bits from their lower and upper half, as int64."""
    return np.array([halves[0] | halves[1] << 32], "uint64").view("int64")


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN.values(), ids=KNOWN)
def test_words_are_those_of_the_authors(counter, key, answer):
    got = philox(words(*key), words(*counter[2:]), words(*counter[:2]))
    assert answer == " ".join(f"{int(w[0]):08x}" for w in got)


def test_fractions_are_uniform_and_below_1():
    key = words(1, 2), words(3, 4)
    a, b, _, _ = philox(*key, np.arange(100_000))
    x = fraction(a, b)
    assert (x.dtype, x.min() >= 0.0, x.max() < 1.0) == ("float64", True, True)
    counts, _ = np.histogram(x, 20, (0, 1))
    chi2 = np.sum((counts - 5000) ** 2) / 5000
    assert 5 < chi2 < 45  # 19 degrees of freedom
    assert fraction(np.int64(2**32 - 1), np.int64(2**32 - 1)) == 1 - 2.0**-53
