"""Every kernel of convolution against a plain loop, PyTorch, and one another."""

import threading

import numpy as np
import pytest
import torch

import sillar as sl
from sillar.backends import Window
from sillar.backends.numpy import (
    convolution,
    depthwise,
    im2col,
    plan,
    scratch,
    winograd,
)
from sillar.errors import ConfigError

ONE = ((0, 0), (0, 0))
EVEN = ((1, 1), (1, 1))
FAR = ((5, 5), (4, 4))  # padding beyond the kernel
SKEW = ((2, 0), (1, 3))


def case(n, h, w, c, k, kernel, *, groups=1, **window):
    return (n, h, w, c), k, Window(kernel, **window), groups


GENERAL = [
    case(2, 7, 9, 3, 5, (3, 3)),
    case(3, 1, 8, 4, 2, (1, 3)),
    case(2, 9, 8, 1, 6, (5, 4), padding=SKEW),
    case(1, 5, 5, 2, 3, (3, 3), padding=FAR),
    case(2, 8, 7, 3, 4, (3, 3), stride=(2, 2), padding=EVEN),
    case(2, 9, 11, 4, 4, (3, 2), stride=(2, 3), padding=SKEW),
    case(2, 11, 12, 4, 6, (3, 3), stride=(2, 3), dilation=(3, 2), padding=EVEN),
    case(2, 11, 12, 4, 6, (3, 2), stride=(4, 2), dilation=(2, 4), padding=FAR),
    case(2, 9, 9, 6, 4, (3, 3), groups=2, padding=EVEN),
    case(2, 6, 7, 5, 8, (1, 1)),
    case(2, 6, 7, 6, 9, (1, 1), groups=3),
    case(2, 7, 7, 5, 8, (1, 1), stride=(2, 2)),
    case(2, 7, 7, 5, 8, (1, 1), stride=(3, 2), padding=EVEN),
    case(1, 70, 90, 40, 12, (3, 3)),  # several blocks of rows
    case(9, 20, 20, 40, 12, (3, 3)),  # several blocks of images
    case(2, 8, 8, 2, 3, (2, 2), stride=(3, 3)),  # cells that no window meets
    case(0, 8, 8, 2, 3, (3, 3)),
]
BY_DEPTH = [
    case(2, 9, 8, 5, 5, (3, 3), groups=5),
    case(3, 9, 8, 5, 15, (3, 2), groups=5, padding=SKEW),
    case(2, 9, 10, 4, 4, (5, 5), groups=4, stride=(2, 2), padding=EVEN),
    case(2, 9, 10, 3, 6, (3, 3), groups=3, stride=(1, 2), dilation=(2, 2), padding=FAR),
    case(2, 80, 70, 16, 16, (3, 3), groups=16, padding=EVEN),
    case(1, 1, 1, 2, 2, (1, 1), groups=2),
    case(0, 5, 5, 2, 2, (3, 3), groups=2),
]
SQUARE = [
    case(2, 7, 9, 3, 5, (3, 3)),
    case(3, 3, 3, 4, 2, (3, 3)),
    case(3, 1, 1, 4, 2, (3, 3), padding=EVEN),
    case(1, 1, 13, 4, 6, (3, 3), padding=EVEN),
    case(2, 6, 6, 8, 8, (3, 3), padding=FAR),
    case(2, 9, 12, 8, 8, (3, 3), padding=SKEW),
    case(1, 90, 91, 24, 70, (3, 3), padding=EVEN),  # several blocks of rows
    case(5, 60, 14, 70, 70, (3, 3)),  # of rows and of images, the last smaller
    case(19, 12, 13, 32, 64, (3, 3), padding=EVEN),
    case(5, 9, 12, 8, 12, (3, 3), groups=2),
    case(2, 9, 12, 12, 8, (3, 3), groups=4, padding=EVEN),
    case(0, 8, 8, 2, 3, (3, 3)),
]
CASES = [
    *((im2col, *c) for c in GENERAL + BY_DEPTH),
    *((depthwise, *c) for c in BY_DEPTH),
    *((winograd, *c) for c in SQUARE),
]
NAMES = [f"{c[0].__name__.split('.')[-1]}-{i}" for i, c in enumerate(CASES)]


def normal(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def operands(shape, k, window, groups, dtype="float64"):
    """Return x, w and g of a case."""
    places = window.positions(shape[1:3])
    x = normal(*shape, dtype=dtype)
    w = normal(*window.kernel, shape[3] // groups, k, seed=1, dtype=dtype)
    return x, w, normal(shape[0], *places, k, seed=2, dtype=dtype)


def by_torch(x, w, g, window, groups):
    """Return y, dx and dw, in float64."""
    (top, bottom), (left, right) = window.padding
    leaf, kernel = (torch.tensor(v).double().requires_grad_() for v in (x, w))
    images = torch.nn.functional.pad(
        leaf.permute(0, 3, 1, 2), (left, right, top, bottom)
    )
    weight = kernel.permute(3, 2, 0, 1)
    y = torch.nn.functional.conv2d(
        images, weight, None, window.stride, 0, window.dilation, groups
    ).permute(0, 2, 3, 1)
    grads = torch.autograd.grad(y, (leaf, kernel), torch.tensor(g).double())
    return [v.detach().numpy() for v in (y, *grads)]


def by_kernel(kernel, x, w, g, window, groups):
    """Return y, dx and dw, written over memory that holds NaN."""
    y, dx, dw = (np.full_like(v, np.nan) for v in (g, x, w))
    kernel.conv(x, w, window, groups, y)
    kernel.conv_input(g, w, window, groups, dx)
    kernel.conv_weight(x, g, window, groups, dw)
    return y, dx, dw


def error(expected, got):
    """Return the relative error, that of the whole and that of the worst element."""
    if expected.size == 0 or not expected.any():
        return abs(got).max(initial=0.0)
    apart = got - expected
    worst = abs(apart).max() / abs(expected).max()
    return max(worst, np.linalg.norm(apart) / np.linalg.norm(expected))


@pytest.mark.parametrize(("kernel", "shape", "k", "window", "groups"), CASES, ids=NAMES)
def test_kernels_compute_what_torch_does(kernel, shape, k, window, groups):
    for dtype, bound in (("float32", 2e-6), ("float64", 1e-14)):
        if kernel is winograd:
            if dtype == "float64":
                continue
            bound = 5e-6
        x, w, g = operands(shape, k, window, groups, dtype)
        if shape[0] == 0:
            expected = np.zeros_like(g), np.zeros_like(x), np.zeros_like(w)
        else:
            expected = by_torch(x, w, g, window, groups)
        for want, got in zip(
            expected, by_kernel(kernel, x, w, g, window, groups), strict=True
        ):
            assert got.dtype == dtype
            assert error(want, got) <= bound


def loop(x, w, window, groups):
    """Return the convolution, one product for each place and output channel."""
    (top, bottom), (left, right) = window.padding
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    (kh, kw, per_group, k), (dh, dw) = w.shape, window.dilation
    rows = range(0, x.shape[1] - window.span(0) + 1, window.stride[0])
    columns = range(0, x.shape[2] - window.span(1) + 1, window.stride[1])
    y = np.zeros((len(x), len(rows), len(columns), k))
    for o in range(k):
        first = o // (k // groups) * per_group
        for a, r in enumerate(rows):
            for b, c in enumerate(columns):
                seen = x[:, r : r + kh * dh : dh, c : c + kw * dw : dw]
                seen = seen[..., first : first + per_group]
                y[:, a, b, o] = (seen * w[..., o]).sum(axis=(1, 2, 3))
    return y


@pytest.mark.parametrize(("shape", "k", "window", "groups"), [*GENERAL[:13], *BY_DEPTH])
def test_back_end_computes_what_a_loop_does(shape, k, window, groups):
    x, w, g = operands(shape, k, window, groups)
    y = loop(x, w, window, groups)
    assert error(y, convolution.conv(x, w, window, groups)) <= 1e-14
    dx = convolution.conv_input(g, w, shape[1:3], window, groups)
    dw = convolution.conv_weight(x, g, window, groups)
    along = normal(*shape, seed=3, dtype="float64")
    direction = normal(*w.shape, seed=4, dtype="float64")
    # conv is linear in each operand: <g, conv(v, w)> = <dx, v>
    np.testing.assert_allclose(
        np.vdot(dx, along), np.vdot(g, loop(along, w, window, groups)), rtol=1e-10
    )
    np.testing.assert_allclose(
        np.vdot(dw, direction), np.vdot(g, loop(x, direction, window, groups)), 1e-10
    )


@pytest.mark.parametrize(
    ("shape", "k"),
    [((64, 26, 26, 32), 64), ((64, 14, 14, 128), 128), ((8, 58, 58, 64), 64)],
)
@pytest.mark.parametrize("activations", [False, True])
def test_winograd_is_within_5e_6(shape, k, activations):
    x, w, g = operands(shape, k, Window((3, 3)), 1, "float32")
    if activations:
        x = np.maximum(x, 0)
    expected = by_torch(x, w, g, Window((3, 3)), 1)
    got = by_kernel(winograd, x, w, g, Window((3, 3)), 1)
    assert max(map(error, expected, got)) <= 5e-6


WINDOW = Window((3, 3), padding=EVEN)


def three(x, w, g, window=WINDOW, **out):
    return (
        convolution.conv(x, w, window, **out),
        convolution.conv_input(g, w, x.shape[1:3], window),
        convolution.conv_weight(x, g, window),
    )


@pytest.fixture
def exact():
    sl.set_exact_convolution(True)
    yield
    sl.set_exact_convolution(False)


def test_which_kernel_does_the_work():
    def chosen(n, size, c, k, window=WINDOW, groups=1, dtype=np.float32):
        shape = (n, *window.positions((size, size)), k)
        w = (*window.kernel, c // groups, k)
        return convolution.kernel_for(shape, w, window, groups, np.dtype(dtype))

    assert chosen(32, 28, 32, 64) is winograd
    assert chosen(32, 28, 32, 64, dtype=np.float64) is im2col
    assert chosen(32, 28, 32, 64, Window((3, 3), (2, 2))) is im2col
    assert chosen(32, 28, 32, 64, Window((3, 3), dilation=(2, 2))) is im2col
    assert chosen(32, 28, 32, 64, Window((5, 5))) is im2col
    assert chosen(32, 28, 1, 32) is im2col
    assert chosen(1, 4, 32, 64) is im2col
    assert chosen(32, 28, 32, 64, groups=4) is winograd
    assert chosen(32, 28, 32, 64, groups=16) is im2col
    assert chosen(32, 28, 32, 32, groups=32) is depthwise


def test_exact_convolution_has_the_error_of_sums(exact):
    x, w, g = operands((8, 20, 20, 32), 32, WINDOW, 1, "float32")
    expected = by_torch(x, w, g, WINDOW, 1)
    plain = three(x, w, g)
    sl.set_exact_convolution(False)
    fast = three(x, w, g)
    for want, slow, quick in zip(expected, plain, fast, strict=True):
        assert error(want, slow) < error(want, quick) / 2 < 2.5e-6
        assert not np.array_equal(slow, quick)


def test_exact_convolution_keeps_infinity_in_its_window(exact):
    x, w, _ = operands((8, 20, 20, 32), 32, WINDOW, 1, "float32")
    x[0, 9, 9, 0] = np.inf
    y = convolution.conv(x, w, WINDOW)
    reached = np.zeros(y.shape, bool)
    reached[0, 8:11, 8:11] = True
    assert np.array_equal(~np.isfinite(y), reached)


def test_exact_convolution_is_yes_or_no():
    with pytest.raises(ConfigError, match="expected True or False, got 1"):
        sl.set_exact_convolution(1)


def test_results_are_the_same_to_the_bit_with_threads_of_ones_own():
    x, w, g = operands((16, 20, 20, 32), 32, WINDOW, 1, "float32")
    expected = three(x, w, g)
    results = []

    def work():
        for _ in range(5):
            results.append(three(x, w, g))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 15
    for got in results:
        assert all(map(np.array_equal, expected, got))


def test_operands_may_be_views_and_of_two_types():
    x, w, g = operands((4, 12, 12, 8), 16, WINDOW, 1, "float32")
    expected = by_torch(x, w, g, WINDOW, 1)
    turned = x.transpose(3, 2, 1, 0).copy().transpose(3, 2, 1, 0)
    cut = np.concatenate([w, w], axis=3)[..., :16].astype("float64")
    for want, got in zip(expected, three(turned, cut, g), strict=True):
        assert error(want, got) <= 5e-6
    assert convolution.conv(turned, cut, WINDOW).dtype == np.float64


def test_scratch_memory_stays_small():
    window = Window((3, 3), padding=EVEN)
    x, w, g = operands((2, 64, 512, 64), 64, window, 1, "float32")
    kept = []

    def work():  # a thread of its own: it has no scratch memory yet
        by_kernel(winograd, x, w, g, window, 1)
        kept.append(sum(b.nbytes for b in scratch._kept.buffers.values()))

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert 1 << 20 < kept[0] < 6 << 20


@pytest.mark.parametrize("name", ["conv", "conv_input", "conv_weight"])
@pytest.mark.parametrize("shape", [(8, 12, 12, 16), (2, 5, 5, 2)])
def test_results_lie_where_the_caller_wants_them(name, shape):
    x, w, g = operands(shape, 16, WINDOW, 1, "float32")
    given = {"conv": (x, w), "conv_input": (g, w), "conv_weight": (x, g)}[name]
    static = {"window": WINDOW, "groups": 1}
    if name == "conv_input":
        static["size"] = shape[1:3]
    expected = plan.INTO[name](*given, **static)
    for out in (
        np.full(expected.shape, np.nan, "float32"),
        np.full(expected.shape[::-1], np.nan, "float32").transpose(3, 2, 1, 0),
        np.full(expected.shape, np.nan, "float64"),
    ):
        assert plan.INTO[name](*given, **static, out=out) is out
        assert np.array_equal(expected, out)
