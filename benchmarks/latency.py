"""Time of one prediction, side by side with PyTorch, JAX and ONNX Runtime.

    python -m benchmarks.latency [--only NAME ...] [--threads N ...] [--rounds 20]
                                 [--json] [--keep]

From an array of NumPy to an array of NumPy, one input or 256 at once; float32. All
libraries have the same weights; first their outputs must agree to 1e-4. Then they take
turns, and the figures are medians over rounds. PyTorch's time is the better of eager
and compiled, both in inference mode.
"""

import sys
from functools import partial

import numpy as np

from benchmarks.child import CORES, in_child
from benchmarks.report import Bar, finish, options, remarks, table
from benchmarks.timing import apart, turns
from benchmarks.workloads import load

NAMES, BATCHES = ("small", "convnet", "lstm-small"), (1, 256)
AGREE = 1e-4
HALF = 2.0  # bar at batch 1: PyTorch's time over ours


def servers(name, x):
    """Return functions from inputs to outputs, by library."""
    from benchmarks import in_jax, in_onnx, in_sillar, in_torch

    given = name, in_torch.draw(name)
    return {
        "sillar": in_sillar.server(*given, compiled=False),
        "sillar compiled": in_sillar.server(*given, compiled=True),
        "torch": in_torch.server(*given, compiled=False),
        "torch.compile": in_torch.server(*given, compiled=True),
        "jax.jit": in_jax.server(*given),
        "onnxruntime": in_onnx.server(*given, x),
    }


def distances(serving, x):
    """Return how far each library's outputs are from those of PyTorch eager."""
    outputs = {k: np.ravel(serve(x)).tolist() for k, serve in serving.items()}
    return {k: apart(values, outputs["torch"]) for k, values in outputs.items()}


def measure(name, batch, rounds):
    """Return the distances between outputs, then the times, by library."""
    x, _ = load(name, batch)
    serving = servers(name, x)
    calls = {k: partial(serve, x) for k, serve in serving.items()}
    return {"apart": distances(serving, x), **turns(calls, rounds)}


def bars_of(name: str, batch: int, row) -> list[Bar]:
    """Return how PyTorch and ONNX Runtime compare to ours; bars are set at batch 1."""
    times, valid = row["milliseconds"], max(row["apart"].values()) <= AGREE
    torch = min(times["torch"], times["torch.compile"])
    single = batch == 1
    against = {
        "PyTorch": (torch, HALF if single else None),
        "ONNX Runtime": (
            times["onnxruntime"],
            1.0 if single and name == "small" else None,
        ),
    }
    return [
        Bar(f"{peer} / Sillar compiled", time / times["sillar compiled"], least, valid)
        for peer, (time, least) in against.items()
    ]


def report(threads: int, rows) -> tuple[str, dict[str, list[Bar]]]:
    """Return the table of one number of threads, and its panels of the picture."""
    title = f"inference, {threads} thread(s)"
    bars = {name: row["bars"] for name, row in rows.items()}
    times = {name: row["milliseconds"] for name, row in rows.items()}
    panels = {
        f"{title}: time of {column[0].name}": [
            bar._replace(name=name) for name, bar in zip(rows, column, strict=True)
        ]
        for column in zip(*bars.values(), strict=True)
    }
    lines = [table(f"{title}: milliseconds per call", times, bars)]
    return "\n".join(lines + remarks(rows, AGREE)), panels


def main() -> None:
    told = options(__doc__.split("\n")[0], NAMES).parse_args()
    found, panels = {}, {}
    for threads in told.threads or dict.fromkeys((1, len(CORES))):
        rows = found[str(threads)] = {}
        for name in told.only or NAMES:
            for batch in BATCHES:
                print(f"{name}, batch {batch}, {threads} thread(s)", file=sys.stderr)
                given = "latency.measure", name, batch, told.rounds
                row = in_child(*given, threads=threads)
                row["bars"] = bars_of(name, batch, row)
                rows[f"{name}, batch {batch}"] = row
        text, more = report(threads, rows)
        panels |= more
        if not told.json:
            print(text)
        for row in rows.values():
            del row["bars"]
    finish("latency", {"threads": found}, panels, told)


if __name__ == "__main__":
    main()
