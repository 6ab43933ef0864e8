"""What one rank of `sillar bench scaling` does: train some steps, and take the time.

python -m sillar.cli.scaling JSON, started by `mpiexec`; the first rank prints JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import numpy as np

from sillar.backends.numpy.threads import set_threads
from sillar.cli.plan import make_plan
from sillar.cli.recipe import changed, checked, read_recipe
from sillar.distributed.mpi import Ranks
from sillar.errors import SillarError
from sillar.train import Callback, Run, fit

WARM = 5  # steps before the clock counts
SIZES = tuple(4**k for k in range(4, 12))  # elements of 4 bytes: 1 kB to 16 MB
ROUNDS = 9


class Clock(Callback):
    """Note after each step the time, that of communication and the bytes so far."""

    def __init__(self, ranks: Ranks, steps: int) -> None:
        self.ranks, self.steps = ranks, steps
        self.marks: list[tuple[float, float, int]] = []

    def on_step(self, run: Run) -> None:
        ranks = self.ranks
        self.marks.append((time.perf_counter(), ranks.seconds, ranks.sum.bytes))
        if len(self.marks) == WARM + 1 + self.steps:
            run.end("measured")


def steps(ranks: Ranks, recipe: str, changes: list[Any], count: int) -> dict[str, Any]:
    """Return what a training step takes on these ranks, medians of `count` steps."""
    _, tables = read_recipe(recipe)
    tables = checked(changed(tables, [tuple(change) for change in changes]))
    plan = make_plan(tables)
    arguments = plan.arguments | {"epochs": 10**6, "validation": None}
    clock = Clock(ranks, count)
    parts = plan.model, plan.loss, plan.optimizer, plan.parts.train
    fit(*parts, callbacks=[clock], ranks=ranks, **arguments)
    marks = np.array(clock.marks[WARM:])
    seconds, communication, sent = np.median(np.diff(marks, axis=0), axis=0)
    slowest = ranks.everywhere([seconds, communication]).max(axis=0).tolist()
    return {
        "ranks": ranks.size,
        "seconds": slowest[0],
        "communication": slowest[1],
        "bytes": float(sent),
        "gradient": plan.model.parameters().size * 4,
        "examples": tables["training"]["batch_size"],
    }


def probe(ranks: Ranks) -> list[tuple[int, float]]:
    """Return sizes of vectors in bytes, and the seconds that adding them up takes."""
    found = []
    for size in SIZES:
        vector, times = np.ones(size, np.float32), []
        for _ in range(ROUNDS):
            ranks.everywhere([0])  # so that all begin at once
            start = time.perf_counter()
            ranks.sum([vector], [1.0])
            times.append(time.perf_counter() - start)
        slowest = ranks.everywhere([statistics.median(times)]).max()
        found.append((vector.nbytes, float(slowest)))
    return found


def main(text: str) -> None:
    """Measure as told, in JSON, and print the same."""
    given = json.loads(text)
    set_threads(1)
    ranks = Ranks(timeout=300)
    found = steps(ranks, given["recipe"], given["changes"], given["steps"])
    found["probe"] = probe(ranks) if ranks.size > 1 else []
    if ranks.rank == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except SillarError as error:
        sys.exit(f"{error}")
