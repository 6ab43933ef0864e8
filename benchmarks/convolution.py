"""Time and error of convolution beside PyTorch's (oneDNN).

    python -m benchmarks.convolution [--only NAME ...] [--threads 1 2] [--rounds 20]
                                     [--json] [--keep]

Forward, gradient for the input, gradient for the weight, and the three together, in
float32. PyTorch is measured with channels last and with channels first; whichever is
faster for all three counts. One thread is compared by the processor's time, which other
work on the machine disturbs less, several by the clock; both are kept. Errors are
relative to PyTorch's results in float64: of the whole, and of the worst element.
"""

import sys
from typing import NamedTuple

from benchmarks.child import CORES, in_child
from benchmarks.report import Bar, finish, options, table
from benchmarks.timing import turns

FASTER, ERROR = 1.3, 5e-6  # what the first three cases are held to


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
HELD = tuple(CASES)[:3]


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


def measure(name, rounds):
    """Return times by library and function, and errors, of a case."""
    case = Case(*CASES[name])
    given = operands(case)
    libraries = {
        "sillar": ours(case, *given),
        "torch last": theirs(case, *given, last=True),
        "torch first": theirs(case, *given, last=False),
    }
    calls = {
        f"{library} {part}": run
        for library, runs in libraries.items()
        for part, run in runs.items()
        if not (case.first and part == "dx")
    }
    return {**turns(calls, rounds), "errors": errors(case, *given)}


def times_of(row, threads: int) -> dict[str, float]:
    """Return a case's times as a row of the table: ours, then the better PyTorch's."""
    times = row["cpu_milliseconds" if threads == 1 else "milliseconds"]
    best = min(("torch last", "torch first"), key=lambda k: times[f"{k} all"])
    parts = [k.split()[1] for k in times if k.startswith("sillar")]
    return {
        f"{name} {part}": times[f"{library} {part}"]
        for part in parts
        for name, library in (("sillar", "sillar"), ("torch", best))
    }


def bars_of(name, row, times) -> list[Bar]:
    """Return how much faster all three are together, and how large errors may be."""
    least = FASTER if name in HELD else None
    worst = max(max(pair) for pair in row["errors"].values())
    ratio = times["torch all"] / times["sillar all"]
    return [
        Bar("PyTorch / Sillar", ratio, least),
        Bar("5e-6 / error", ERROR / worst, 1.0),
    ]


def main() -> None:
    told = options(__doc__.split("\n")[0], CASES).parse_args()
    found, panels = {}, {}
    for threads in told.threads or dict.fromkeys((1, len(CORES))):
        rows = found[str(threads)] = {}
        for name in told.only or CASES:
            print(f"{name}, {threads} thread(s)", file=sys.stderr)
            rows[name] = in_child(
                "convolution.measure", name, told.rounds, threads=threads
            )
        times = {name: times_of(row, threads) for name, row in rows.items()}
        bars = {name: bars_of(name, row, times[name]) for name, row in rows.items()}
        title = f"convolution, {threads} thread(s)"
        if not told.json:
            print(table(f"{title}: milliseconds", times, bars))
        panels[f"{title}: time of PyTorch / Sillar"] = [
            bars[name][0]._replace(name=name) for name in rows
        ]
    finish("convolution", {"threads": found}, panels, told)


if __name__ == "__main__":
    main()
