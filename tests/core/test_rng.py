"""Random numbers: the published generator, keys that split, and sane statistics."""

from hashlib import blake2b
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from sillar.core import ops
from sillar.core.rng import Rng
from sillar.errors import ConfigError

WORD = 2**64 - 1
# counter, key, output: Salmon et al. 2011, known answers of Random123, philox4x64-10
KNOWN = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (
            0x16554D9ECA36314C,
            0xDB20FE9D672D0FDC,
            0xD7E772CEE186176B,
            0x7E68B68AEC7BA23B,
        ),
    ),
    (
        (WORD,) * 4,
        (WORD,) * 2,
        (
            0x87B092C3013FE90B,
            0x438C3C67BE8D0224,
            0x9CC7D7C69CD777B6,
            0xA09CAEBF594F0BA0,
        ),
    ),
]


def philox(counter, key, rounds=10):
    """Return the four words of one block, by the definition."""
    (a, b, c, d), (k0, k1) = counter, key
    for _ in range(rounds):
        left, right = 0xD2E7470EE14C6C93 * a, 0xCA5A826395121157 * c
        a, b, c, d = (
            (right >> 64) ^ b ^ k0,
            right & WORD,
            (left >> 64) ^ d ^ k1,
            left & WORD,
        )
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & WORD, (k1 + 0xBB67AE8584CAA73B) & WORD
    return a, b, c, d


def words_of(rng, blocks=2):
    key = tuple(map(int, rng.key))
    return [word for n in range(blocks) for word in philox((n + 1, 0, 0, 0), key)]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_the_reference_gives_the_published_words(counter, key, expected):
    assert philox(counter, key) == expected


@pytest.mark.parametrize("rng", [Rng(0), Rng(2**80), Rng(7).split("a", 3)], ids=repr)
def test_draws_are_philox_words_of_the_key(rng):
    expected = words_of(rng)
    assert rng.generator().bit_generator.random_raw(8).tolist() == expected
    doubles = [(word >> 11) * 2.0**-53 for word in expected]
    assert rng.uniform((2, 4), "float64").ravel().tolist() == doubles
    halves = [half for word in expected for half in (word & 0xFFFFFFFF, word >> 32)]
    singles = [(half >> 8) * 2.0**-24 for half in halves]
    assert rng.uniform(16, "float32").tolist() == singles


def test_keys_are_digests_of_seed_and_purpose():
    def digest(text):
        return np.frombuffer(blake2b(text, digest_size=16).digest(), "<u8").tolist()

    assert Rng(5).key.tolist() == digest(b"seed:5")
    expected = digest(Rng(5).key.tobytes() + b"str:epoch\x1fint:3")
    assert Rng(5).split("epoch", 3).key.tolist() == expected


def test_the_same_key_draws_the_same_always():
    rng = Rng(3)
    for draw in (
        lambda r: r.uniform(5),
        lambda r: r.normal((2, 3), "float64"),
        lambda r: r.integers(0, 100, 20),
        lambda r: r.permutation(20),
    ):
        first = draw(rng)
        np.testing.assert_array_equal(first, draw(rng), strict=True)
        np.testing.assert_array_equal(first, draw(Rng(3)), strict=True)
        assert not np.array_equal(first, draw(Rng(4)))


def test_splits_differ_from_their_parent_and_from_one_another():
    rng = Rng(0)
    keys = [
        rng,
        rng.split("a"),
        rng.split("b"),
        rng.split(0),
        rng.split("0"),
        rng.split("a", 0),
        rng.split("a").split(0),
        rng.split(0, "a"),
        rng.split("a0"),
        Rng(1).split("a"),
    ]
    draws = [tuple(r.integers(0, 2**62, 2)) for r in keys]
    assert len(set(draws)) == len(keys)


def test_a_split_does_not_depend_on_what_was_drawn():
    rng = Rng(0)
    expected = rng.split("x").uniform(3)
    rng.normal(1000)
    np.testing.assert_array_equal(expected, rng.split("x").uniform(3))


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_numpys_integers_split_as_pythons(kind):
    assert Rng(0).split("epoch", kind(3)).key.tolist() == (
        Rng(0).split("epoch", 3).key.tolist()
    )
    assert Rng(kind(3)).key.tolist() == Rng(3).key.tolist()


def test_streams_of_neighbouring_keys_are_uncorrelated():
    streams = [Rng(0).split("sample", i).normal(4000, "float64") for i in range(8)]
    streams += [Rng(i).normal(4000, "float64") for i in range(8)]
    correlations = [abs(np.corrcoef(a, b)[0, 1]) for a, b in combinations(streams, 2)]
    assert max(correlations) < 4.5 / np.sqrt(4000)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_follow_their_distributions(dtype):
    uniform = Rng(0).uniform(20_000, dtype, low=-2, high=3)
    normal = Rng(0).normal(20_000, dtype)
    assert (uniform.dtype, normal.dtype) == (dtype, dtype)
    assert (uniform.min() >= -2, uniform.max() <= 3) == (True, True)
    assert stats.kstest(uniform, stats.uniform(-2, 5).cdf).pvalue > 1e-3
    assert stats.kstest(normal, stats.norm.cdf).pvalue > 1e-3


def test_integers_are_uniform_below_the_end():
    draws = Rng(0).integers(-2, 8, 20_000)
    assert draws.dtype == "int64"
    counts = np.bincount(draws + 2, minlength=10)
    assert len(counts) == 10
    assert stats.chisquare(counts).pvalue > 1e-3


def test_permutations_hold_everything_once_and_are_uniform():
    order = Rng(0).permutation(1000)
    assert order.dtype == "int64"
    assert sorted(order) == list(range(1000))
    counts = np.zeros((5, 5))
    for seed in range(2000):
        counts[np.arange(5), Rng(seed).permutation(5)] += 1
    assert stats.chisquare(counts.ravel(), ddof=8).pvalue > 1e-3


def test_draws_in_a_step_are_the_keys_too():
    rng = Rng(9).split("dropout")
    for primitive, draw in (
        (ops.random_uniform, rng.uniform),
        (ops.random_normal, rng.normal),
    ):
        for dtype in ("float32", "float64"):
            got = primitive(rng.key, shape=(3, 2), dtype=np.dtype(dtype))
            np.testing.assert_array_equal(draw((3, 2), dtype), got.numpy(), strict=True)


@pytest.mark.parametrize("seed", [-1, 1.0, "1", None, True, [1]])
def test_other_seeds_are_refused(seed):
    with pytest.raises(ConfigError, match="seed must be an integer >= 0"):
        Rng(seed)


@pytest.mark.parametrize("purpose", [(), (0.5,), (None,), ("a", object())])
def test_other_purposes_are_refused(purpose):
    with pytest.raises(ConfigError, match="split: "):
        Rng(0).split(*purpose)
