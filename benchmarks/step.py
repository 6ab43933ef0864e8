"""Time of one training step, side by side with PyTorch and JAX, in one run.

    python -m benchmarks.step [NAME ...] [--threads N] [--rounds 30] [--json] [--keep]

Forward, gradients, Adam, the loss read back; float32. All libraries start from the same
weights and see the same batch; first their losses over 20 steps must agree to 1e-4,
relative to losses above 1.
Then each round times every library in turn, after a rest and a step that is not timed,
and the figures are medians over rounds.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time

CHECKED, AGREE = 20, 1e-4  # relative to losses above 1
REST = 0.05  # seconds: the others' threads spin on for a while after their step
CORES = sorted(os.sched_getaffinity(0))


def limit(threads: int) -> None:
    """Give every library as many threads and cores; before any of them is loaded."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.pop("OPENBLAS_CORETYPE", None)  # the kernels made for this processor
    os.environ.pop("OPENBLAS_L2_SIZE", None)
    os.sched_setaffinity(0, CORES[:threads])


def steps_of(name):
    """Return the step functions of a workload, by library, each with fresh weights."""
    from benchmarks import peers
    from benchmarks.workloads import load

    return {
        "sillar": peers.sillar_step(*load(name), compiled=False),
        "sillar compiled": peers.sillar_step(*load(name), compiled=True),
        "torch": peers.torch_step(*load(name), compiled=False),
        "torch.compile": peers.torch_step(*load(name), compiled=True),
        "jax.jit": peers.jax_step(*load(name)),
    }


def measure(name: str, rounds: int) -> dict[str, float]:
    """Return the median milliseconds of a step by library."""
    steps = steps_of(name)
    losses = {
        library: [step() for _ in range(CHECKED)] for library, step in steps.items()
    }
    for library, values in losses.items():
        pairs = zip(values, losses["sillar"], strict=True)
        apart = max(abs(a - b) / max(1.0, abs(b)) for a, b in pairs)
        if not apart <= AGREE:  # another computation: its time says nothing
            print(f"{name}: {library} is {apart:.1e} away, left out", file=sys.stderr)
            del steps[library]
    times: dict[str, list[float]] = {library: [] for library in steps}
    for _ in range(rounds):
        for library, step in steps.items():
            calls = 10 if name in ("small", "mlp") else 2
            time.sleep(REST)
            step()
            start = time.perf_counter()
            for _ in range(calls):
                step()
            times[library].append((time.perf_counter() - start) / calls * 1e3)
    return {k: round(statistics.median(v), 3) for k, v in times.items()}


def ratio(row: dict[str, float], ours: str) -> float:
    """Return the time of the best peer over ours: above 1 we are faster."""
    return min(v for k, v in row.items() if not k.startswith("sillar")) / row[ours]


def show(threads: int, rows: dict[str, dict[str, float]]) -> None:
    libraries = list(dict.fromkeys(k for row in rows.values() for k in row))
    print(f"milliseconds per step, {threads} thread(s)")
    head = "".join(f"{library:>17}" for library in libraries)
    print(f"{'':10}{head}  best peer / sillar compiled")
    for name, row in rows.items():
        values = "".join(
            f"{row.get(library, math.nan):>17.3f}" for library in libraries
        )
        print(f"{name:10}{values}  {ratio(row, 'sillar compiled'):.2f}")
    ratios = [ratio(row, "sillar compiled") for row in rows.values()]
    mean = math.exp(statistics.mean(map(math.log, ratios)))
    print(f"geometric mean: {mean:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="workloads; all by default")
    parser.add_argument("--threads", type=int, default=len(CORES))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--keep", action="store_true", help="write into results/")
    options = parser.parse_args()
    limit(options.threads)
    from benchmarks.machine import keep, versions
    from benchmarks.workloads import WORKLOADS

    names = options.names or list(WORKLOADS)
    rows = {name: measure(name, options.rounds) for name in names}
    result = {"threads": options.threads, "milliseconds": rows}
    if options.keep:
        peers = {"peers": versions("torch", "jax")}
        keep(f"step-{options.threads}", result | peers)
    if options.json:
        print(json.dumps(result))
    else:
        show(options.threads, rows)


if __name__ == "__main__":
    main()
