"""Time and memory of one training step with NumPy in each precision, in one run.

    python -m benchmarks.precision [--only NAME ...] [--threads N ...] [--rounds 20]
                                   [--json] [--keep]

The networks are those of the recipes `mnist`, `text`, `names-gru` and `names-lstm`, at
the recipes' batch sizes, on drawn data. The memory is what waits for the backward pass.
"""

import sys

import numpy as np

from benchmarks.child import CORES, in_child
from benchmarks.report import Bar, finish, options, table
from benchmarks.timing import turns

PRECISIONS = ("float32", "bfloat16", "float16")
TIME, MEMORY = 1 / 1.1, 1 / 0.6  # bars: float32's / ours
NAMES = ("mnist", "text", "names-gru", "names-lstm")
CLASSES = 60  # characters of a text, of a name


def drawn(name):
    """Return a recipe's network, and a batch for it."""
    from sillar.cli.recipe import read_recipe
    from sillar.nn.architecture import build

    _, tables = read_recipe(name)
    n, rng = tables["training"]["batch_size"], np.random.default_rng(0)
    if name == "mnist":
        x, y = rng.random((n, 28, 28, 1), "float32"), rng.integers(0, 10, n)
    else:
        tokens = rng.integers(0, CLASSES, (n, tables["data"]["context"] + 1))
        x, y = tokens[:, :-1], tokens[:, 1:]
    layers = [
        {k: CLASSES if v == "classes" else v for k, v in layer.items()}
        for layer in tables["model"]["layers"]
    ]
    return build({"type": "Sequential", "layers": layers}, name), x, y


def measure(name, rounds):
    """Return milliseconds of a step, and the bytes that wait, by precision."""
    import sillar as sl
    from sillar.backends import half
    from sillar.train.step import Step

    model, x, y = drawn(name)
    model.init(sl.Rng(0))
    waiting: dict[str, int] = {}
    steps = {}
    for precision in PRECISIONS:
        step = Step(
            *(model, sl.CrossEntropy(), model.parameters()),
            compiled=True,
            precision=precision,
        )

        def note(trace, backend, precision=precision):
            if precision != "float32":
                half.rewrite(trace, precision, backend)
            waiting[precision] = half.waiting_bytes(trace)

        sl.Compiled(step.plain, rewrite=note)(x, y, sl.Rng(0))
        steps[precision] = lambda step=step: step(x, y, sl.Rng(0))[0].item()
    return {"waiting": waiting, **turns(steps, rounds)}


def bars_of(row) -> list[Bar]:
    """Return how float32 compares to the halves in time and in memory."""
    times, waiting = row["milliseconds"], row["waiting"]
    whole = times["float32"], waiting["float32"]
    return [
        bar
        for half in PRECISIONS[1:]
        for bar in (
            Bar(f"time, float32 / {half}", whole[0] / times[half], TIME),
            Bar(f"memory, float32 / {half}", whole[1] / waiting[half], MEMORY),
        )
    ]


def main() -> None:
    told = options(__doc__.split("\n")[0], NAMES).parse_args()
    found, panels = {}, {}
    for threads in told.threads or sorted({1, len(CORES)}):
        rows = {}
        for name in told.only or NAMES:
            print(f"{name}: {threads} thread(s)", file=sys.stderr)
            args = "precision.measure", name, told.rounds
            rows[name] = in_child(*args, threads=threads)
        bars = {name: bars_of(row) for name, row in rows.items()}
        title = f"{threads} thread(s): milliseconds per step"
        print(table(title, {k: row["milliseconds"] for k, row in rows.items()}, bars))
        found[str(threads)] = rows
        for i, kind in enumerate(next(iter(bars.values()))):
            panel = [row[i]._replace(name=name) for name, row in bars.items()]
            panels[f"{threads} thread(s): {kind.name}"] = panel
    finish("precision", {"threads": found}, panels, told)


if __name__ == "__main__":
    main()
