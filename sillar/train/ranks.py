"""Who shares the work of a run: what `fit` asks its process, or many, to agree on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from sillar.train.step import Step


class Alone:
    """One process that trains by itself.

    What several processes do instead is in `sillar.distributed`; they are numbered by
    `rank`, from 0 on, and each calls the same methods in the same order.
    """

    rank = 0
    share = (0, 1)  # of each batch: which part, of how many

    def begin(self, run: Any) -> None:
        """Make sure that all train the same, and from the same weights."""

    def step(self, *args: Any, **kwargs: Any) -> Step:
        """Return the step of a whole batch, which each calls with its share."""
        return Step(*args, **kwargs)

    def total(self, amounts: dict[str, float]) -> dict[str, float]:
        """Return the sums of what all have counted."""
        return amounts

    def stopped(self, run: Any) -> bool:
        """Say whether the run ends now, for all of them."""
        return bool(run.stop)

    def outputs(self, predict: Callable[..., Any], model: Any, x: Any) -> np.ndarray:
        """Return predict(model, x), of which each may do a part."""
        found: np.ndarray = predict(model, x)
        return found

    def first(self, function: Callable[[], Any]) -> Any:
        """Return what the first one's function returns; the others' is not called."""
        return function()

    def use(self, **settings: Any) -> None:
        """Take other settings, which a process by itself has none of that matter."""

    def check(self, run: Any) -> None:
        """Make sure that all have the same weights, after an epoch."""

    def same(self, what: str, value: Any) -> None:
        """Raise if this is another value elsewhere."""

    def together(self) -> Any:
        """Return a context: if one of them fails, all end, and say why."""
        return nullcontext()

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs of all of them."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up a saved state."""


ALONE = Alone()
