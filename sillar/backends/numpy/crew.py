"""Who does the parts of a step: threads, or processes over memory that they share.

Both do a stage of every part at once, and wait for all. Threads of one interpreter take
turns at its lock between calls, so they like calls to be long. Processes do not, but
see only what lies in shared memory: boxes, and copies of arguments and constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from functools import partial
from typing import Any

import numpy as np

from sillar.backends.base import Array
from sillar.backends.numpy import scratch, threads
from sillar.backends.numpy.memory import empty, give_back
from sillar.backends.numpy.sharing import shared
from sillar.backends.numpy.team import Mirror, Team

Kind = tuple[tuple[int, ...], Any]
Part = Callable[..., Iterator[None]]  # arguments to a generator of stages


class Threads:
    """A thread for each part."""

    wider = threads.WIDER
    empty = staticmethod(empty)

    def see(self, constants: dict[int, Array]) -> dict[int, Array]:
        """Return the constants as parts see them."""
        return constants

    def function(
        self,
        run: Callable[..., Any],
        parts: Sequence[Part],
        kinds: Sequence[Kind],
        after_effects: Set[int],
        held: Sequence[Callable[[], bool]],
    ) -> Callable[..., Any]:
        """Return run(advance, *arguments); `advance` does a stage of each part."""

        def replay(*args: Array) -> Any:
            running = [part(*args) for part in parts]
            turns = [partial(next, generator, None) for generator in running]
            with threads.single_threaded_blas():
                return run(partial(threads.run, turns), *args)

        return replay


class Processes:
    """A process for each part, the first of which is this one.

    In a copy of this process, forked by somebody else, nobody works for it: there, or
    where children no longer know what to do, that which `otherwise` makes is called.
    """

    wider = 1
    empty = staticmethod(shared)

    def __init__(self, otherwise: Callable[[], Callable[..., Any]]) -> None:
        self.otherwise = otherwise
        scratch.forget()
        give_back()  # or children get pages that their parent wrote to, and copy them

    def see(self, constants: dict[int, Array]) -> dict[int, Array]:
        """Return copies of the constants, which `function` keeps up to date."""
        self.mirror = Mirror([*constants.values()])
        return {i: self.mirror.view(array) for i, array in constants.items()}

    def function(
        self,
        run: Callable[..., Any],
        parts: Sequence[Part],
        kinds: Sequence[Kind],
        after_effects: Set[int],
        held: Sequence[Callable[[], bool]],
    ) -> Callable[..., Any]:
        """Return run(advance, *arguments); `advance` does a stage of each part.

        Of effects that parts do, `held` say whether children still know what to do.
        """
        given = [shared(*kind) for kind in kinds]
        first, *others = (partial(part, *given) for part in parts)
        with threads.single_threaded_blas():  # which children keep
            team = Team(others)

        def replay(*args: Array) -> Any:
            if not team.is_ours() or not all(hold() for hold in held):
                return self._instead(args)
            for box, array in zip(given, args, strict=True):
                np.copyto(box, array)
            self.mirror.refresh()
            own, stage = first(), 1

            def advance() -> None:
                nonlocal stage
                if stage in after_effects:
                    self.mirror.refresh()
                team.advance(partial(next, own, None))
                stage += 2

            team.start()
            with threads.single_threaded_blas():
                return run(advance, *args)

        return replay

    def _instead(self, args: Sequence[Array]) -> Any:
        if not hasattr(self, "replay"):
            self.replay = self.otherwise()
        return self.replay(*args)
