"""Measurements in processes of their own, with a given number of threads.

Libraries read the number of threads when they are loaded. So each measurement is a
child that starts with it, and nothing that one workload leaves behind (compiled code,
pools of threads, memory) is there for the next.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
CORES = sorted(os.sched_getaffinity(0))
MAIN = "import sys; from benchmarks.child import answer; answer(*sys.argv[1:])"


def environment(threads: int) -> dict[str, str]:
    """Return the environment in which each library uses so many threads."""
    env = dict(os.environ)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        env[name] = str(threads)
    env.pop("OPENBLAS_CORETYPE", None)  # the kernels made for this processor
    env.pop("OPENBLAS_L2_SIZE", None)
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # imports are timed from cached bytecode
    return env


def in_child(function: str, *args: Any, threads: int) -> Any:
    """Return the result of "module.function" of benchmarks, on so many cores."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, str(threads), function, json.dumps(args)],
        env=environment(threads),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{function}{args} failed with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def answer(threads: str, function: str, args: str) -> None:
    """Print the result of a function: what a child does."""
    os.sched_setaffinity(0, CORES[: int(threads)])  # before any library is loaded
    module, _, name = function.partition(".")
    call = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    print(json.dumps(call(*json.loads(args))))
