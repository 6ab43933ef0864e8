"""Time of one training step on a GPU, beside PyTorch and JAX, within eight minutes.

    python -m benchmarks.gpu [--only NAME ...] [--minutes 8] [--rounds 5] [--json]
                             [--keep]
    python -m benchmarks.gpu --smoke

The step-time workloads of the CPU, a ResNet-18 for images of 32x32x3 at batch 256, and
a GPT of 124 million parameters in bfloat16; all start from the same weights, and their
first losses must agree. Every contestant whose libraries load has a process of its own,
which stops when its share of the time is up. Results go to benchmarks/results/gpu.json,
the device's name in them. Without a GPU, --smoke does all of it in tiny sizes on the
CPU, to show that it runs; its figures mean nothing and are not kept.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.child import ROOT
from benchmarks.gpu_child import CONTESTANTS
from benchmarks.report import Bar, finish, table
from benchmarks.timing import apart
from benchmarks.workloads import GPTS, LARGE, WORKLOADS

HOST = "sillar numpy"
NAMES = ("gpt-124m", "resnet18", "cnn", *(n for n in WORKLOADS if n != "cnn"))
TINY = ("gpt-tiny", "resnet18-tiny", "small")
QUICK = {"torch.compile": ("small",)}  # in a smoke run: Inductor takes half a minute
AGREE = {False: 1e-2, True: 5e-2}  # relative, by halves; GPUs round float32 to TF32
PEER, EAGER, ON_HOST = 0.95, 1.0, 10.0  # bars: a peer's time / ours
STARTING = 60.0  # seconds until a process that is late is ended


def child(function: str, *args: str, seconds: float = 120.0) -> list[str]:
    """Return the lines that a function of gpu_child prints, those of a cut run too."""
    env = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if "cpu" in args:
        env["JAX_PLATFORMS"] = "cpu"
    command = [sys.executable, "-m", "benchmarks.gpu_child", function, *args]
    with tempfile.TemporaryFile("w+") as out:
        try:
            subprocess.run(command, cwd=ROOT, env=env, stdout=out, timeout=seconds)
        except subprocess.TimeoutExpired:
            print(f"{function} {args[:1]}: ended, it took too long", file=sys.stderr)
        out.seek(0)
        return out.read().splitlines()


def contestants() -> dict[str, str]:
    """Return why each contestant cannot take part here, or nothing."""
    return {name: "\n".join(child("ready", name))[:200] for name in CONTESTANTS}


def measure(names, told, device) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return what each workload took each contestant, and who did not take part."""
    end = time.monotonic() + 60 * told.minutes
    missing = contestants()
    playing = [name for name, why in missing.items() if not why]
    rows: dict[str, dict[str, Any]] = {name: {} for name in names}
    with tempfile.TemporaryDirectory() as folder:
        child("draw", folder, json.dumps(names))
        for i, contestant in enumerate(playing):
            own = [n for n in names if takes_part(contestant, n, told.smoke)]
            seconds = max(0.0, end - time.monotonic()) / (len(playing) - i)
            plan = {
                "workloads": [(name, name in GPTS) for name in own],
                **{"seconds": seconds, "rounds": told.rounds},
            }
            print(f"{contestant}: up to {seconds:.0f} s", file=sys.stderr)
            given = contestant, folder, device, json.dumps(plan)
            for line in child("answer", *given, seconds=seconds + STARTING):
                name, found = json.loads(line)
                rows[name][contestant] = found
    return rows, {name: why for name, why in missing.items() if why}


def takes_part(contestant: str, name: str, smoke: bool) -> bool:
    """Say whether a contestant trains a workload; the host trains the CNN alone."""
    if contestant == HOST:
        return name == ("small" if smoke else "cnn")
    return not smoke or name in QUICK.get(contestant, (name,))


def flops(name: str) -> float:
    """Return the floating-point operations of a GPT's step (Chowdhery et al. 2022, B).

    Six for each weight and token, and those of attention.
    """
    sizes, batch = GPTS[name], LARGE[name].batch
    blocks = sizes.blocks * 12 * sizes.width**2
    weights = blocks + sizes.vocabulary * sizes.width
    attention = 12 * sizes.blocks * sizes.width * sizes.context
    return batch * sizes.context * (6.0 * weights + attention)


def bars_of(name: str, row: dict[str, Any]) -> list[Bar]:
    """Return how our best compares to the best peer, PyTorch eager and the host."""
    times = medians(row)
    ours = {k: v for k, v in times.items() if k.startswith("sillar") and k != HOST}
    peers = {k: v for k, v in times.items() if not k.startswith("sillar")}
    valid = distance(name, row) <= AGREE[name in GPTS]
    bars = []
    if ours and peers:
        ratio = min(peers.values()) / min(ours.values())
        bars.append(Bar("best peer / best Sillar", ratio, PEER, valid))
    if ours and "torch" in peers:
        ratio = peers["torch"] / min(ours.values())
        bars.append(Bar("PyTorch eager / best Sillar", ratio, EAGER, valid))
    if ours and HOST in times:
        ratio = times[HOST] / min(ours.values())
        bars.append(Bar("NumPy on the host / best Sillar", ratio, ON_HOST, valid))
    return bars


def medians(row: dict[str, Any]) -> dict[str, float]:
    """Return the milliseconds of each contestant that was measured."""
    return {
        name: statistics.median(found["milliseconds"])
        for name, found in row.items()
        if isinstance(found, dict)
    }


def distance(name: str, row: dict[str, Any]) -> float:
    """Return how far first losses are apart, of all that were measured."""
    losses = [found["losses"] for found in row.values() if isinstance(found, dict)]
    return max((apart(values, losses[0]) for values in losses), default=0.0)


def remarks(rows, missing, rate) -> list[str]:
    """Return what does not fit into a table of milliseconds."""
    lines = [f"{name} did not take part: {why}" for name, why in missing.items()]
    for name, row in rows.items():
        lines += [
            f"{name}, {who}: {found}"
            for who, found in row.items()
            if not isinstance(found, dict)
        ]
        if name in GPTS:
            for who, milliseconds in medians(row).items():
                used = flops(name) / (milliseconds / 1e3) / rate
                lines.append(f"{name}, {who}: {used:.1%} of the matrix rate")
        far = distance(name, row)
        if far > AGREE[name in GPTS]:
            lines.append(f"{name}: first losses are {far:.0e} apart")
    return lines


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=[*NAMES, *TINY], metavar="NAME")
    parser.add_argument("--minutes", type=float, default=7.5, help="of all together")
    parser.add_argument("--rounds", type=int, default=5, help="fewer are faster")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, on the CPU")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--keep", action="store_true", help="write into results/")
    return parser


def main() -> None:
    told = options().parse_args()
    device = json.loads(child("about_device")[-1])
    if not told.smoke and not device["cuda"]:
        raise SystemExit("gpu: there is no GPU here; --smoke tries all on the CPU")
    if told.smoke:
        told.keep, told.rounds = False, 1
    names = told.only or [*(TINY if told.smoke else NAMES)]
    rows, missing = measure(names, told, "cpu" if told.smoke else "cuda")
    bars = {name: bars_of(name, row) for name, row in rows.items()}
    title = f"{device['name']}: milliseconds per step"
    if told.smoke:
        title = f"tiny, on the CPU, to show that it runs: {title}"
    print(table(title, {name: medians(row) for name, row in rows.items()}, bars))
    print("\n".join(remarks(rows, missing, device["flops"])))
    used = {
        name: {
            who: flops(name) / (ms / 1e3) / device["flops"]
            for who, ms in medians(row).items()
        }
        for name, row in rows.items()
        if name in GPTS
    }
    found = {"device": device, "rows": rows, "missing": missing, "utilisation": used}
    finish("gpu", found, panels(bars), told)


def panels(bars: dict[str, list[Bar]]) -> dict[str, list[Bar]]:
    """Return a panel of the picture for each bar."""
    kinds = dict.fromkeys(bar.name for row in bars.values() for bar in row)
    return {
        kind: [
            bar._replace(name=name)
            for name, row in bars.items()
            for bar in row
            if bar.name == kind
        ]
        for kind in kinds
    }


if __name__ == "__main__":
    main()
