"""Test loss of character models over seeds, trained by the command line.

    python -m benchmarks.language --recipe text|names-lstm|names-gru --data FILE
                                  [--seeds 2] [--keep]

FILE is the text that the recipe learns: Tiny Shakespeare for text (its last tenth is
held back), makemore's names for the others (a tenth of the different names is). Every
seed is a process of its own on one thread, one after another. The bar is the worst
seed's loss in nats per character: 1.90 for text, 2.45, a table of pairs of letters, for
names.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import keep

BARS = {"text": 1.90, "names-lstm": 2.45, "names-gru": 2.45}


def sillar(*arguments: object) -> str:
    """Run one command on one thread and return its standard output."""
    command = [sys.executable, "-m", "sillar", *map(str, arguments)]
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **threads}
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr}")
    return done.stdout


def train(recipe: str, data: str, seed: int, folder: Path) -> dict[str, object]:
    """Train one seed; return its test loss, its last training loss and its seconds."""
    run = folder / f"{recipe}-{seed}"
    start = time.perf_counter()
    options = ("--data", data, "--seed", seed, "--out", run, "--json")
    printed = sillar("train", recipe, *options)
    seconds = time.perf_counter() - start
    metrics = json.loads(printed.splitlines()[-1])["metrics"]
    epochs = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    written = sillar("sample", run, "--length", 200, "--count", 3, "--json")
    found = {
        "seed": seed,
        "loss": metrics["loss"],
        "bits_per_character": metrics["bits_per_character"],
        "accuracy": metrics["accuracy"],
        "characters": metrics["samples"],
        "train_loss": epochs[-1]["loss"],
        "steps": epochs[-1]["step"],
        "seconds": round(seconds),
        "samples": json.loads(written)["samples"],
    }
    print({k: v for k, v in found.items() if k != "samples"}, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="the text to learn")
    parser.add_argument("--recipe", choices=BARS, default="text")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="write into results/")
    options = parser.parse_args()
    recipe, bar = options.recipe, BARS[options.recipe]
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            train(recipe, options.data, seed, Path(folder))
            for seed in range(options.seeds)
        ]
    worst = max(run["loss"] for run in runs)
    print(f"{recipe}: worst test loss {worst:.4f} (bar: {bar:.2f})")
    if options.keep:
        result = {"recipe": recipe, "runs": runs, "worst": worst, "bar": bar}
        print(keep(f"language-{recipe}", result))
    raise SystemExit(worst > bar)


if __name__ == "__main__":
    main()
