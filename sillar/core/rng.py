"""Random numbers from explicit keys (Philox, Salmon et al. 2011), never from a global.

An `Rng` is a value, not a stream: the same one always draws the same numbers, and
`split` makes a new one for each purpose and index. So a result does not depend on
what was drawn before it, on workers, on threads, or on resuming.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sillar.errors import ConfigError


class Rng:
    """A key to random numbers; `seed` is an integer >= 0."""

    __slots__ = ("key",)

    def __init__(self, seed: int) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ConfigError(f"Rng: seed must be an integer >= 0, got {seed!r}")
        self.key = _digest(f"seed:{int(seed)}".encode())

    def split(self, *purpose: str | int) -> Rng:
        """Return the key for a purpose, as in `rng.split("shuffle", epoch)`."""
        if not purpose:
            raise ConfigError("split: name a purpose, as in rng.split('shuffle', 0)")
        child = Rng.__new__(Rng)
        words = "\x1f".join(map(_word, purpose))
        child.key = _digest(self.key.tobytes() + words.encode())
        return child

    def uniform(
        self, shape: Any = (), dtype: Any = "float32", low: float = 0, high: float = 1
    ) -> Any:
        """Draw an array from [low, high)."""
        draws = self.generator().random(shape, dtype=np.dtype(dtype))
        return draws * np.dtype(dtype).type(high - low) + np.dtype(dtype).type(low)

    def normal(self, shape: Any = (), dtype: Any = "float32") -> Any:
        """Draw an array from the standard normal distribution."""
        return self.generator().standard_normal(shape, dtype=np.dtype(dtype))

    def integers(self, low: int, high: int, shape: Any = ()) -> Any:
        """Draw an int64 array from low, ..., high - 1."""
        return self.generator().integers(low, high, shape)

    def permutation(self, n: int) -> Any:
        """Return 0, ..., n - 1 in random order, as int64."""
        return self.generator().permutation(n)

    def generator(self) -> Any:
        """Return a NumPy generator at the start of this key's stream."""
        from numpy.random import Generator, Philox

        return Generator(Philox(key=self.key))

    def __repr__(self) -> str:
        return f"Rng(key={self.key[0]:016x}{self.key[1]:016x})"


def _word(part: Any) -> str:
    """Return text that tells a number from its digits; NumPy's numbers are numbers."""
    if isinstance(part, str):
        return f"str:{part}"
    if isinstance(part, int | np.integer):
        return f"int:{int(part)}"
    raise ConfigError(f"split: expected text or integers, got {part!r:.40}")


def _digest(text: bytes) -> Any:
    """Return two 64-bit words that depend on every bit of `text`."""
    from hashlib import blake2b

    words = np.frombuffer(blake2b(text, digest_size=16).digest(), dtype="<u8")
    return words.astype(np.uint64)
