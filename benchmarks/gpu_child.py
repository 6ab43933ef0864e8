"""One contestant of `gpu.py` in a process of its own: a line of JSON for each workload.

It imports nothing but what it measures, so it says which library cannot be loaded.
"""

import gc
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

CONTESTANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sillar jax": ("in_sillar", {"backend": "jax", "compiled": True}),
    "sillar torch": ("in_sillar", {"backend": "torch", "compiled": True}),
    "sillar eager": ("in_sillar", {"backend": "torch", "compiled": False}),
    "torch": ("in_torch", {"compiled": False}),
    "torch.compile": ("in_torch", {"compiled": True}),
    "jax.jit": ("in_jax", {}),
    "sillar numpy": ("in_sillar", {"backend": "numpy", "compiled": True}),
}
CHECKED = 5  # losses that all must agree on
BURST = 0.2  # seconds of one measurement, of at least two steps


def answer(contestant: str, folder: str, device: str, plan: str) -> None:
    """Measure the workloads of a plan until its time is out; print as they are done."""
    wanted = json.loads(plan)
    begin = time.perf_counter()
    for name, half in wanted["workloads"]:
        if time.perf_counter() - begin > wanted["seconds"]:
            tell(name, "left out: the time was up")
            continue
        try:
            found = measured(contestant, name, folder, device, half, wanted["rounds"])
        except Exception as error:  # one workload that fails must not cost the others
            found = f"{type(error).__name__}: {str(error).splitlines()[0]:.200}"
        tell(name, found)
        gc.collect()


def tell(name: str, found: Any) -> None:
    print(json.dumps([name, found]), flush=True)


def measured(
    contestant: str, name: str, folder: str, device: str, half: bool, rounds: int
) -> dict[str, Any]:
    """Return the first losses, and the milliseconds of a step in each round."""
    from benchmarks.workloads import load

    module, how = CONTESTANTS[contestant]
    if module == "in_torch" or how.get("backend") == "torch":
        how = how | {"device": device}
    if contestant == "torch.compile":
        import_module("torch._dynamo").reset()  # it gives up after eight compilations
    with np.load(Path(folder) / f"{name}.npz") as arrays:
        weights = dict(arrays)
    begin = time.perf_counter()
    trainer = import_module(f"benchmarks.{module}").trainer
    step = trainer(name, weights, *load(name), half=half, **how)
    losses = [step() for _ in range(CHECKED)]
    ready, times = time.perf_counter() - begin, []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        count = max(2, int(BURST / (time.perf_counter() - start)))
        start = time.perf_counter()
        for _ in range(count):
            step()
        times.append((time.perf_counter() - start) / count * 1e3)
    return {"losses": losses, "milliseconds": times, "seconds to begin": ready}


def draw(folder: str, names: str) -> None:
    """Write PyTorch's first weights of some workloads, which all take over."""
    from benchmarks.in_torch import save

    for name in json.loads(names):
        save(name, Path(folder) / f"{name}.npz")


def ready(contestant: str) -> None:
    """Print why what a contestant needs cannot be loaded here, or nothing."""
    module, how = CONTESTANTS[contestant]
    try:
        if "backend" in how:
            import_module("sillar.backends").load(how["backend"])
        else:
            import_module(f"benchmarks.{module}")
    except Exception as error:
        print(f"{type(error).__name__}: {error}")


def about_device() -> None:
    """Print the device's name, and how many products a second it does in bfloat16."""
    import torch

    cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if cuda else "cpu"
    n = 8192 if cuda else 256
    a = torch.ones((n, n), dtype=torch.bfloat16, device="cuda" if cuda else "cpu")
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        (a @ a)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    found = {"name": name, "cuda": cuda, "flops": 2 * n**3 / best}
    print(json.dumps(found))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
