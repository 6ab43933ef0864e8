"""What Sillar adds to NumPy: per recorded operation, and at import.

    python -m benchmarks.overhead [--json] [--keep]

An operation is timed recorded (its inputs require gradients), against NumPy's own call
on the same four elements, in turn; the figure is the median difference over the rounds.
Imports are whole processes, in turn: `import numpy` against `import sillar`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

import sillar as sl
from benchmarks.machine import keep
from sillar.core import ops

CALLS, ROUNDS, IMPORTS = 20_000, 15, 15


def cases():
    a = np.linspace(0.5, 2.0, 4, dtype="float32")
    m = a.reshape(2, 2)
    t, tm = sl.Tensor(a, requires_grad=True), sl.Tensor(m, requires_grad=True)
    return {
        "add": (lambda: np.add(a, a), lambda: t + t),
        "multiply by a scalar": (lambda: np.multiply(a, 2.0), lambda: t * 2.0),
        "tanh": (lambda: np.tanh(a), lambda: ops.tanh(t)),
        "relu": (lambda: np.maximum(a, 0), lambda: ops.relu(t)),
        "sum": (lambda: np.sum(a, axis=0), lambda: t.sum(axis=0)),
        "reshape": (lambda: np.reshape(a, (2, 2)), lambda: t.reshape(2, 2)),
        "matmul": (lambda: np.matmul(m, m), lambda: tm @ tm),
        "index": (lambda: a[1:3], lambda: t[1:3]),
    }


def seconds(call) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS


def per_operation() -> dict[str, float]:
    """Return the added microseconds of each operation."""
    added = {}
    for name, (numpy_call, sillar_call) in cases().items():
        pairs = [(seconds(numpy_call), seconds(sillar_call)) for _ in range(ROUNDS)]
        added[name] = round(1e6 * statistics.median(b - a for a, b in pairs), 3)
    return added


def import_milliseconds() -> dict[str, float]:
    """Return the median milliseconds inside Python of importing each.

    The first import of each writes Python's bytecode and is not counted.
    """
    code = (
        "import time; s = time.perf_counter(); import {}; print(time.perf_counter()-s)"
    )
    cached = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    found: dict[str, list[float]] = {"numpy": [], "sillar": []}
    for _ in range(IMPORTS + 1):
        for name, values in found.items():
            command = [sys.executable, "-c", code.format(name)]
            values.append(float(subprocess.check_output(command, env=cached)) * 1e3)
    return {name: round(statistics.median(v[1:]), 1) for name, v in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--keep", action="store_true", help="write results/overhead.json"
    )
    options = parser.parse_args()
    result = {
        "added_microseconds": per_operation(),
        "import_milliseconds": import_milliseconds(),
    }
    if options.keep:
        keep("overhead", result)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result["added_microseconds"].items():
        print(f"{name:22} {value:6.2f} microseconds over NumPy (bar: 4)")
    times = result["import_milliseconds"]
    more = times["sillar"] - times["numpy"]
    print(f"import: numpy {times['numpy']} ms, sillar {more:.1f} ms more (bar: 50)")


if __name__ == "__main__":
    main()
