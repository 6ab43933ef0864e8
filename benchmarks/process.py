"""What a child of `memory.py` does; it imports nothing but what it measures."""

import time
from importlib import import_module
from pathlib import Path

STEPS = 10
LIBRARIES = {  # the module that trains, and how
    "sillar": ("in_sillar", {"compiled": False}),
    "sillar compiled": ("in_sillar", {"compiled": True}),
    "torch": ("in_torch", {"compiled": False}),
    "torch.compile": ("in_torch", {"compiled": True}),
    "jax.jit": ("in_jax", {}),
}


def peak() -> float:
    """Return this process's peak of resident memory so far, in MB (10^6 bytes)."""
    return field("self/status", "VmHWM:") * 1024 / 1e6


def together() -> float:
    """Return what this process and its children have now, in MB, each page once."""
    tasks = Path("/proc/self/task").glob("*/children")
    family = ["self", *(child for task in tasks for child in task.read_text().split())]
    return sum(field(f"{n}/smaps_rollup", "Pss:") for n in family) * 1024 / 1e6


def field(file, name):
    """Return the number of kilobytes that a file of /proc gives."""
    for line in Path("/proc", file).read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise SystemExit(f"memory: /proc/{file} has no {name} this needs Linux")


def train(library, name, weights, batch=None):
    """Train a workload for some steps; return the peak in MB."""
    import numpy as np

    from benchmarks.workloads import load

    module, how = LIBRARIES[library]
    trainer = import_module(f"benchmarks.{module}").trainer
    with np.load(weights) as arrays:
        given = dict(arrays)
    step = trainer(name, given, *load(name, batch), **how)
    for _ in range(STEPS):
        step()
    return max(peak(), together())


def imported(library):
    """Return the milliseconds of an import, and the peak in MB after it."""
    start = time.perf_counter()
    import_module(library)
    return (time.perf_counter() - start) * 1e3, peak()
