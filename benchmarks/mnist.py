"""Test accuracy on MNIST over seeds, trained by the command line.

    python -m benchmarks.mnist --data DIR [--recipe mnist|one-cycle] [--seeds 5]
                               [--jobs 2] [--keep]

DIR holds the four IDX files. Every seed is a process of its own on one thread, `jobs`
at a time. The bar is a median of 0.990 or more.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.machine import keep

BAR = 0.99


def train(recipe: str, data: str, seed: int, folder: Path) -> dict[str, object]:
    """Train one seed and return its test metrics, its epochs and its seconds."""
    run = folder / f"{recipe}-{seed}"
    command = [sys.executable, "-m", "sillar", "train", recipe, "--data", data]
    command += ["--seed", str(seed), "--out", str(run), "--json"]
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **threads}
    )
    if done.returncode:
        raise SystemExit(f"seed {seed} failed: {done.stderr}")
    metrics = json.loads(done.stdout.splitlines()[-1])["metrics"]
    epochs = len((run / "metrics.jsonl").read_text().splitlines())
    found = {
        "seed": seed,
        "accuracy": metrics["accuracy"],
        "loss": metrics["loss"],
        "epochs": epochs,
        "seconds": round(time.perf_counter() - start),
    }
    print(found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="folder of the four IDX files")
    parser.add_argument("--recipe", default="mnist")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="write into results/")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(options.jobs) as pool,
    ):
        runs = list(
            pool.map(
                lambda s: train(options.recipe, options.data, s, Path(folder)),
                range(options.seeds),
            )
        )
    median = statistics.median(run["accuracy"] for run in runs)
    print(f"{options.recipe}: median test accuracy {median:.4f} (bar: {BAR:.3f})")
    if options.keep:
        result = {"recipe": options.recipe, "runs": runs, "median": median, "bar": BAR}
        print(keep(f"mnist-{options.recipe}", result))


if __name__ == "__main__":
    main()
