"""Peak memory of whole processes, and time and memory of an import.

    python -m benchmarks.memory [--only NAME ...] [--rounds 5] [--json] [--keep]

Each library trains each workload for some steps in a process of its own; the figure is
that process's peak of resident memory (VmHWM). What Inductor's compiler takes in
further processes is not counted. An import is timed inside Python, medians over rounds;
the first, which writes the bytecode, is not counted.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.child import CORES, in_child
from benchmarks.process import LIBRARIES
from benchmarks.report import Bar, finish, options, table
from benchmarks.workloads import WORKLOADS

HALF = 2.0  # bar: PyTorch's peak over ours
IMPORTS = ("numpy", "sillar", "torch", "jax")


def peaks(names) -> dict[str, dict[str, float]]:
    """Return the peak by workload and library."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            weights = str(Path(folder) / f"{name}.npz")
            in_child("in_torch.save", name, weights, threads=1)
            print(f"{name}: memory", file=sys.stderr)
            rows[name] = {
                library: in_child(
                    "process.train", library, name, weights, threads=len(CORES)
                )
                for library in LIBRARIES
            }
    return rows


def imports(rounds: int) -> dict[str, dict[str, float]]:
    """Return milliseconds and MB of each import."""
    found = {library: [] for library in IMPORTS}
    for _ in range(rounds + 1):
        for library, pairs in found.items():
            pairs.append(in_child("process.imported", library, threads=len(CORES)))
    columns = {k: list(zip(*pairs[1:], strict=True)) for k, pairs in found.items()}
    return {
        "import, ms": {k: statistics.median(v[0]) for k, v in columns.items()},
        "import, MB": {k: statistics.median(v[1]) for k, v in columns.items()},
    }


def bars_of(rows) -> dict[str, list[Bar]]:
    """Return how PyTorch's peak, eager or compiled, compares to compiled Sillar's."""
    return {
        name: [
            Bar(
                "PyTorch / Sillar compiled",
                min(row["torch"], row["torch.compile"]) / row["sillar compiled"],
                HALF,
            )
        ]
        for name, row in rows.items()
    }


def main() -> None:
    told = options(__doc__.split("\n")[0], WORKLOADS, threads=False).parse_args()
    rows, light = peaks(told.only or WORKLOADS), imports(told.rounds)
    bars = bars_of(rows)
    beside = {
        name: [Bar("PyTorch / Sillar", row["torch"] / row["sillar"])]
        for name, row in light.items()
    }
    if not told.json:
        print(table("training: peak memory of the process, MB", rows, bars))
        print(table("import alone", light, beside))
    panels = {
        "training: peak memory of PyTorch / Sillar compiled": [
            bar._replace(name=name) for name, (bar,) in bars.items()
        ],
        "PyTorch / Sillar": [b._replace(name=name) for name, (b,) in beside.items()],
    }
    finish("memory", {"peak_megabytes": rows, **light}, panels, told)


if __name__ == "__main__":
    main()
