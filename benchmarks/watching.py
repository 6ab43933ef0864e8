"""What the profiler adds to a training step while it listens.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.watching

A step (forward, backward, Adam, the loss read back) runs as it is written, with and
without the profiler, in turn; the figure is the ratio of the medians of processor time,
which other programs disturb less than the clock.
"""

import statistics
import time
from functools import partial

import numpy as np

import sillar as sl
from benchmarks.in_sillar import cnn, mlp

# name: model, shape of a batch, rounds
CASES = {
    "mlp, batch 256": (partial(mlp, 784, 256, 256, 10), (256, 784), 400),
    "cnn, batch 64": (cnn, (64, 28, 28, 1), 30),
}


def step_of(model, shape):
    """Return a training step on made-up data."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype("float32")
    y = rng.integers(0, 10, len(x))
    loss, optimizer = sl.CrossEntropy(), sl.Adam().bind(model.parameters())

    def step() -> float:
        value = loss(model(x, rng=sl.Rng(0)), y)
        optimizer.step(sl.grad(value, optimizer.params))
        return float(value.item())

    return step


def seconds(step) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def measured(name: str) -> tuple[float, float]:
    """Return milliseconds of a step without the profiler, and the ratio with it."""
    make, shape, rounds = CASES[name]
    model = make().init(sl.Rng(0))
    step, profile = step_of(model, shape), sl.watch.profile(model)

    def watched() -> None:
        with profile:
            step()

    for _ in range(3):
        watched()
    off, on = [], []
    for i in range(rounds):
        turns = [(off, step), (on, watched)]
        for found, call in turns[:: 1 if i % 2 else -1]:
            found.append(seconds(call))
    return 1e3 * statistics.median(off), statistics.median(on) / statistics.median(off)


def main() -> None:
    for name in CASES:
        milliseconds, ratio = measured(name)
        print(f"{name:15} {milliseconds:7.2f} ms, {ratio - 1:+.1%} with the profiler")


if __name__ == "__main__":
    main()
