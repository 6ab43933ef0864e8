"""Time and error of convolution and pooling beside PyTorch (oneDNN), in one run.

    python -m benchmarks.convolution [NAME ...] [--threads N] [--rounds 15] [--json]
                                     [--keep]

Forward, gradient for the input, gradient for the weight, and the three together, in
float32. Each round times both libraries in turn; figures are medians over rounds, of
the process's own processor time and of the clock. PyTorch is measured with channels
last and with channels first, whichever is faster for all three together counts. Errors
are relative to PyTorch's in float64: of the whole, and of the worst element.
"""

import argparse
import json
import statistics
import sys
import time
from typing import NamedTuple

from benchmarks.step import CORES, limit

REST = 0.02  # seconds: the others' threads spin on for a while after their work


class Case(NamedTuple):
    """Images (n, size, size, c) to k channels."""

    n: int
    size: int
    c: int
    k: int
    kernel: int = 3
    stride: int = 1
    padding: int = 0
    groups: int = 1
    first: bool = False  # the images are data: nobody wants a gradient for them


CASES = {
    "26x26x32-64": Case(64, 26, 32, 64),
    "14x14x128-128": Case(64, 14, 128, 128),
    "56x56x64-64": Case(16, 58, 64, 64),
    "26x26x32-64 same": Case(64, 26, 32, 64, padding=1),
    "14x14x128-128 same": Case(64, 14, 128, 128, padding=1),
    "56x56x64-64 same": Case(16, 56, 64, 64, padding=1),
    "30x30x16-16": Case(32, 30, 16, 16),
    "mnist 28x28x1-32": Case(128, 28, 1, 32, first=True),
    "mnist 13x13x32-64": Case(128, 13, 32, 64),
    "mnist 5x5 28x28x1-32": Case(128, 28, 1, 32, kernel=5, first=True),
    "mnist 5x5 12x12x32-64": Case(128, 12, 32, 64, kernel=5),
    "rgb 32x32x3-32": Case(64, 32, 3, 32, padding=1, first=True),
    "1x1 32x32x64-64": Case(32, 32, 64, 64, kernel=1),
    "stride 2 32x32x32-64": Case(32, 32, 32, 64, stride=2, padding=1),
    "stride 2 1x1 32x32x32-64": Case(32, 32, 32, 64, kernel=1, stride=2),
    "by depth 28x28x64": Case(32, 28, 64, 64, padding=1, groups=64),
    "groups 28x28x64-64": Case(32, 28, 64, 64, padding=1, groups=8),
    "one image 28x28x32-64": Case(1, 28, 32, 64, padding=1),
}
BAR = tuple(CASES)[:3]


def operands(case):
    """Return images, weight and a gradient at the output, channels last."""
    import numpy as np

    rng = np.random.default_rng(0)
    places = (case.size + 2 * case.padding - case.kernel) // case.stride + 1
    shapes = (
        (case.n, case.size, case.size, case.c),
        (case.kernel, case.kernel, case.c // case.groups, case.k),
        (case.n, places, places, case.k),
    )
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def ours(case, x, w, g):
    """Return our functions: forward, both gradients apart, all three."""
    from sillar.backends import Window
    from sillar.backends.numpy import convolution as own

    sides = (case.padding, case.padding)
    window = Window((case.kernel,) * 2, (case.stride,) * 2, (sides, sides))
    size, groups = x.shape[1:3], case.groups

    def forward():
        return own.conv(x, w, window, groups)

    def for_input():
        return own.conv_input(g, w, size, window, groups)

    def for_weight():
        return own.conv_weight(x, g, window, groups)

    def together():
        return forward(), None if case.first else for_input(), for_weight()

    return {"y": forward, "dx": for_input, "dw": for_weight, "all": together}


def theirs(case, x, w, g, *, last, dtype="float32"):
    """Return PyTorch's functions, with channels last or first in memory."""
    import torch

    form = torch.channels_last if last else torch.contiguous_format
    tensors = (
        torch.tensor(v.transpose(p).astype(dtype)).contiguous(memory_format=form)
        for v, p in ((x, (0, 3, 1, 2)), (w, (3, 2, 0, 1)), (g, (0, 3, 1, 2)))
    )
    images, weight, grad = tensors
    images.requires_grad_(True)
    weight.requires_grad_(True)

    def conv(x, w):
        return torch.nn.functional.conv2d(
            x, w, None, case.stride, case.padding, 1, case.groups
        )

    y = conv(images, weight)

    def gradient(*leaves):
        return torch.autograd.grad(y, leaves, grad, retain_graph=True)[0]

    def together():
        if case.first:
            out = conv(images.detach(), weight)
            return out, None, torch.autograd.grad(out, weight, grad)[0]
        out = conv(images, weight)
        return out, *torch.autograd.grad(out, (images, weight), grad)

    return {
        "y": lambda: conv(images.detach(), weight.detach()),
        "dx": lambda: gradient(images),
        "dw": lambda: gradient(weight),
        "all": together,
    }


def errors(case, x, w, g):
    """Return our relative errors, of the whole and of the worst element."""
    import numpy as np

    exact = theirs(case, x, w, g, last=False, dtype="float64")
    places = {"y": (0, 2, 3, 1), "dx": (0, 2, 3, 1), "dw": (2, 3, 1, 0)}
    found = {}
    for name, run in ours(case, x, w, g).items():
        if name in places:
            want = exact[name]().detach().numpy().transpose(places[name])
            apart = run() - want
            found[name] = (
                float(np.linalg.norm(apart) / np.linalg.norm(want)),
                float(abs(apart).max() / abs(want).max()),
            )
    return found


def measure(case: Case, rounds: int) -> dict[str, object]:
    """Return times in milliseconds, (processor, clock), by library and function."""
    given = operands(case)
    libraries = {
        "sillar": ours(case, *given),
        "torch last": theirs(case, *given, last=True),
        "torch first": theirs(case, *given, last=False),
    }
    times = {k: {name: [] for name in runs} for k, runs in libraries.items()}
    for _ in range(rounds):
        for library, runs in libraries.items():
            time.sleep(REST)
            for name, run in runs.items():
                if name == "dx" and case.first:
                    continue
                run()
                clock, processor = time.perf_counter(), time.process_time()
                run()
                processor = time.process_time() - processor
                clock = time.perf_counter() - clock
                times[library][name].append((processor * 1e3, clock * 1e3))
    medians = {
        library: {
            name: [round(statistics.median(v), 3) for v in zip(*pairs, strict=True)]
            for name, pairs in by_name.items()
            if pairs
        }
        for library, by_name in times.items()
    }
    best = min(("torch last", "torch first"), key=lambda k: medians[k]["all"][1])
    return {
        "milliseconds": {"sillar": medians["sillar"], "torch": medians[best]},
        "layout of torch": best.split()[1],
        "ratio": {
            name: round(medians[best][name][1] / own[1], 3)
            for name, own in medians["sillar"].items()
        },
        "ratio of processor time": round(
            medians[best]["all"][0] / medians["sillar"]["all"][0], 3
        ),
        "errors": errors(case, *given),
    }


def show(threads: int, rows: dict[str, dict]) -> None:
    print(f"milliseconds by the clock, {threads} thread(s): sillar / torch = ratio")
    for name, row in rows.items():
        parts = []
        for key, (_, own) in row["milliseconds"]["sillar"].items():
            other = row["milliseconds"]["torch"][key][1]
            parts.append(f"{key} {own:.2f}/{other:.2f}={row['ratio'][key]:.2f}")
        worst = max(e for pair in row["errors"].values() for e in pair)
        print(
            f"{name:26}{'  '.join(parts)}  processor"
            f" {row['ratio of processor time']:.2f}  error {worst:.0e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="cases; all by default")
    parser.add_argument("--threads", type=int, default=len(CORES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--keep", action="store_true", help="write into results/")
    options = parser.parse_args()
    unknown = set(options.names) - set(CASES)
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}; known: {list(CASES)}")
    limit(options.threads)
    import torch

    from benchmarks.machine import keep, versions

    torch.set_num_threads(options.threads)
    rows = {n: measure(CASES[n], options.rounds) for n in options.names or CASES}
    result = {"threads": options.threads, "bar": BAR, "cases": rows}
    if options.keep:
        keep(f"convolution-{options.threads}", result | {"peers": versions("torch")})
    if options.json:
        print(json.dumps(result))
    else:
        show(options.threads, rows)


if __name__ == "__main__":
    main()
