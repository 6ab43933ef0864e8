"""Time of one training step, side by side with PyTorch and JAX, in one run.

    python -m benchmarks.step [--only NAME ...] [--threads N ...] [--rounds 20]
                              [--json] [--keep]

Forward, gradients, Adam, the loss read back; float32. All libraries start from the same
weights and see the same batch; first their losses over 20 steps must agree to 1e-4,
relative to losses above 1; a row where they do not counts as missed. Then they take
turns, and the figures are medians over rounds. With --keep, results and a picture of
them are written into benchmarks/results/.
"""

import sys

from benchmarks.child import CORES, in_child
from benchmarks.report import Bar, finish, geometric_mean, options, remarks, table
from benchmarks.timing import apart, turns
from benchmarks.workloads import WORKLOADS, load

CHECKED, AGREE = 20, 1e-4
COMPILED, EAGER, MEAN, MEAN_EAGER = 1.0, 1.0, 1.5, 1.2  # bars: a peer's time / ours
OURS = "sillar compiled"


def trainers(name, x, y):
    """Return the step functions of a workload, by library, each with fresh weights."""
    from benchmarks import in_jax, in_sillar, in_torch

    given = name, in_torch.draw(name), x, y
    return {
        "sillar": in_sillar.trainer(*given, compiled=False),
        OURS: in_sillar.trainer(*given, compiled=True),
        "torch": in_torch.trainer(*given, compiled=False),
        "torch.compile": in_torch.trainer(*given, compiled=True),
        "jax.jit": in_jax.trainer(*given),
    }


def distances(steps, checked=CHECKED):
    """Return how far each library's first losses are from those of PyTorch eager."""
    losses = {k: [step() for _ in range(checked)] for k, step in steps.items()}
    return {k: apart(values, losses["torch"]) for k, values in losses.items()}


def measure(name, rounds):
    """Return a workload's distances between losses, then its times, by library."""
    steps = trainers(name, *load(name))
    return {"apart": distances(steps), **turns(steps, rounds)}


def bars_of(row) -> list[Bar]:
    """Return how the best peer compares to compiled, PyTorch eager to eager steps."""
    times, valid = row["milliseconds"], max(row["apart"].values()) <= AGREE
    best = min(v for k, v in times.items() if not k.startswith("sillar"))
    eager = times["torch"] / times["sillar"]
    return [
        Bar("best peer / Sillar compiled", best / times[OURS], COMPILED, valid),
        Bar("PyTorch eager / Sillar eager", eager, EAGER, valid),
    ]


def report(threads: int, rows) -> tuple[str, dict[str, list[Bar]]]:
    """Return the table of one number of threads, and its panels of the picture."""
    bars = {name: bars_of(row) for name, row in rows.items()}
    compiled, eager = zip(*bars.values(), strict=True)
    ends = geometric_mean(compiled, MEAN), geometric_mean(eager, MEAN_EAGER)
    times = {name: row["milliseconds"] for name, row in rows.items()}
    title = f"training, {threads} thread(s)"
    lines = [table(f"{title}: milliseconds per step", times, bars)]
    lines += remarks(rows, AGREE)
    panels = {}
    for column, end in zip((compiled, eager), ends, strict=True):
        lines.append(f"geometric mean of {column[0].name}: {end}")
        named = [b._replace(name=n) for n, b in zip(rows, column, strict=True)]
        panels[f"{title}: time of {column[0].name}"] = [*named, end]
    return "\n".join(lines), panels


def main() -> None:
    told = options(__doc__.split("\n")[0], WORKLOADS).parse_args()
    found, panels = {}, {}
    for threads in told.threads or dict.fromkeys((1, len(CORES))):
        rows = found[str(threads)] = {}
        for name in told.only or WORKLOADS:
            print(f"{name}, {threads} thread(s)", file=sys.stderr)
            rows[name] = in_child("step.measure", name, told.rounds, threads=threads)
        text, more = report(threads, rows)
        panels |= more
        if not told.json:
            print(text)
    finish("step", {"threads": found}, panels, told)


if __name__ == "__main__":
    main()
