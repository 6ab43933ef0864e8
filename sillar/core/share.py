"""A batch that several processes share: what a step has to ask the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sillar.backends import Array
from sillar.core.ops import concat, random_uniform
from sillar.core.state import recording
from sillar.core.tape import primitive
from sillar.core.tensor import Tensor


class Share(NamedTuple):
    """Rows `start` to `stop` of a batch of `of`, and how to add up over all shares."""

    start: int
    stop: int
    of: int
    add: Callable[[Any], Any]  # of an array on the host; all processes call it

    def __enter__(self) -> None:
        recording.share = self

    def __exit__(self, *exception: object) -> None:
        recording.share = None


@primitive
def over_shares(xp: Any, x: Array) -> Array:
    """Return the sum of what all shares have; the gradient of a sum is one, too."""
    share = recording.share
    return x if share is None else xp.from_numpy(share.add(xp.to_numpy(x)))


over_shares.defvjp(lambda g, y, x: over_shares(g))


def whole(count: int, *sums: Tensor) -> list[Any]:
    """Return a count, and sums (n,), of the whole batch that this is a share of."""
    if recording.share is None:
        return [max(1, count), *sums]
    own = Tensor(np.array([count], str(sums[0].dtype)))
    found, n = over_shares(concat(*sums, own)), sums[0].size
    return [found[-1], *(found[i : i + n] for i in range(0, found.size - 1, n))]


def whole_rows(rows: int) -> int:
    """Return how many rows the whole batch has, of which so many are here."""
    return rows if recording.share is None else int(recording.share.of)


def uniform_rows(key: Tensor, shape: tuple[int, ...], dtype: Any) -> Tensor:
    """Draw from [0, 1) as for the whole batch, and return the rows that are here."""
    share = recording.share
    if share is None or shape[:1] != (share.stop - share.start,):
        return random_uniform(key, shape=shape, dtype=dtype)
    draws = random_uniform(key, shape=(share.of, *shape[1:]), dtype=dtype)
    return draws[share.start : share.stop]
