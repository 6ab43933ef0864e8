"""Gradient transforms: what they compute, and that they leave their input alone."""

import numpy as np
import pytest

from sillar import nn, optim
from sillar.core.rng import Rng
from sillar.errors import ConfigError, ShapeError
from sillar.optim import (
    SGD,
    Accumulate,
    ClipNorm,
    ClipValue,
    LossScale,
    SkipNonFinite,
    Transform,
)

MAKERS = {
    ClipNorm: lambda: ClipNorm(0.5),
    ClipValue: lambda: ClipValue(0.5),
    Accumulate: lambda: Accumulate(2),
    LossScale: lambda: LossScale(4.0, grow_every=3),
    SkipNonFinite: SkipNonFinite,
}
ADVICE = ": load a state that was saved with the same rule and the same transforms"


def normal(size, dtype="float64", seed=0):
    return np.random.default_rng(seed).normal(size=size).astype(dtype)


def test_every_transform_has_a_row():
    found = [getattr(optim, name) for name in optim.__all__]
    found = {c for c in found if issubclass(c, Transform) and c is not Transform}
    assert set(MAKERS) == found


@pytest.mark.parametrize("make", MAKERS.values(), ids=[c.__name__ for c in MAKERS])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [0, 1, 50])
def test_input_is_left_alone_and_dtype_kept(make, dtype, size):
    transform, g = make(), normal(size, dtype)
    before = g.copy()
    g.flags.writeable = False
    results = [transform(g) for _ in range(4)]
    np.testing.assert_array_equal(before, g)
    kept = [r for r in results if r is not None]
    assert kept
    assert {(r.dtype, r.shape) for r in kept} == {(g.dtype, g.shape)}


@pytest.mark.parametrize("max_norm", [0.1, 3.0, 1e6])
def test_clip_norm_equals_pytorch(max_norm):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    g = normal(100)
    p = torch.zeros(100, dtype=torch.float64, requires_grad=True)
    p.grad = torch.tensor(g)
    torch.nn.utils.clip_grad_norm_([p], max_norm)
    # PyTorch adds 1e-6 to the norm, which is about 10 here
    np.testing.assert_allclose(ClipNorm(max_norm)(g), p.grad.numpy(), rtol=2e-7)


@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1e-18, 1.0, 1e18, 1e30, 3e38])
def test_clip_norm_of_tiny_and_huge_float32(scale):
    g = (np.sign(normal(1000)) * scale).astype("float32")
    wide = g.astype("float64")
    norm = np.linalg.norm(wide)
    for max_norm in (norm / 1000, norm * 2):
        expected = wide * min(1.0, max_norm / norm)
        if np.abs(expected).max() > 1e-37:  # below, float32 has few digits left
            np.testing.assert_allclose(ClipNorm(max_norm)(g), expected, rtol=1e-5)
    assert ClipNorm(norm * 2)(g) is g
    assert np.linalg.norm(ClipNorm(1.0)(g).astype("float64")) <= 1.0 + 1e-5


def test_clip_norm_of_huge_float64():
    g = np.array([3e307, -4e307])
    np.testing.assert_allclose(ClipNorm(5.0)(g), [3.0, -4.0])


def test_clip_norm_of_zeros_and_nothing():
    for g in (np.zeros(3), np.zeros(0)):
        np.testing.assert_array_equal(g, ClipNorm(1.0)(g), strict=True)


def test_clip_norm_with_a_numpy_limit_keeps_float32():
    assert ClipNorm(np.float64(0.1))(normal(9, "float32")).dtype == np.float32
    assert ClipValue(np.float64(0.1))(normal(9, "float32")).dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_clip_norm_passes_a_bad_vector_on(bad):
    g = np.array([1.0, bad, 2.0])
    np.testing.assert_array_equal(g, ClipNorm(0.1)(g))


def test_clip_value():
    g = np.array([-3.0, -0.5, 0.0, 0.5, 3.0, np.inf, np.nan])
    expected = [-1.0, -0.5, 0.0, 0.5, 1.0, 1.0, np.nan]
    np.testing.assert_array_equal(expected, ClipValue(1.0)(g))


def test_accumulate_gives_the_mean_of_every_group():
    gradients = [normal(20, seed=seed) for seed in range(7)]
    accumulate = Accumulate(3)
    results = [accumulate(g) for g in gradients]
    assert [r is None for r in results] == [True, True, False, True, True, False, True]
    np.testing.assert_allclose(results[2], np.mean(gradients[:3], axis=0))
    np.testing.assert_allclose(results[5], np.mean(gradients[3:6], axis=0))


def test_accumulate_keeps_no_view_of_its_input():
    accumulate, buffer = Accumulate(2), np.ones(3)
    accumulate(buffer)
    buffer[:] = 5.0  # the caller reuses its buffer
    np.testing.assert_array_equal([3.0, 3.0, 3.0], accumulate(buffer))


def test_accumulate_one_is_the_identity():
    g = normal(5)
    np.testing.assert_array_equal(g, Accumulate(1)(g))


def test_accumulated_parts_equal_the_big_batch(parameters):
    x, y = normal((12, 4)), normal(12, seed=1)

    def gradient(w, rows):
        return x[rows].T @ (x[rows] @ w - y[rows]) / len(x[rows])

    whole = optim.Adam(0.1).bind(parameters(w=np.zeros(4)))
    parts = optim.Adam(0.1).bind(
        parameters(w=np.zeros(4)), transforms=[optim.Accumulate(3)]
    )
    for _ in range(20):
        whole.step([gradient(whole.params.vector, slice(0, 12))])
        w = parts.params.vector.copy()
        for start in (0, 4, 8):
            parts.step([gradient(w, slice(start, start + 4))])
    np.testing.assert_allclose(parts.params.vector, whole.params.vector, rtol=1e-6)


def test_skip_non_finite_counts():
    skip = SkipNonFinite()
    good = np.full(3, 3e38, "float32")  # finite, though its sum is not
    assert skip(good) is good
    for bad in (np.nan, np.inf, -np.inf):
        assert skip(np.array([0.0, bad])) is None
    assert skip.skipped == 3


def test_a_loss_scale_divides_shrinks_and_grows():
    scale, g, bad = LossScale(8.0, grow_every=3), np.ones(2), np.array([1.0, np.inf])
    seen = []
    for gradient in (g, bad, g, g, bad, g, g, g, g):
        used, got = scale.scale, scale(gradient)
        seen.append(scale.scale)
        if gradient is bad:
            assert got is None
        else:
            np.testing.assert_array_equal(g / used, got)
    assert seen == [8.0, 4.0, 4.0, 4.0, 2.0, 2.0, 2.0, 4.0, 4.0]
    assert scale.state() == {"scale": 4.0, "good": 1, "skipped": 2}
    other = LossScale(1.0, grow_every=3)
    other.load_state(scale.state())
    assert other.state() == scale.state()
    scale.reset()
    assert scale.state() == {"scale": 8.0, "good": 0, "skipped": 0}


def test_states_resume():
    first, second = Accumulate(3), Accumulate(3)
    assert first.state() == {"count": 0}
    second.load_state(first.state())
    g = [normal(4, seed=seed) for seed in range(3)]
    first(g[0])
    saved = first.state()
    assert list(saved) == ["count", "total"]
    first(g[1])
    second.load_state(saved)
    second(g[1])
    np.testing.assert_array_equal(first(g[2]), second(g[2]))
    skip = SkipNonFinite()
    skip.load_state({"skipped": np.int64(4)})
    assert skip.state() == {"skipped": 4}


def test_reprs():
    expected = {
        "ClipNorm(max_norm=0.5)",
        "ClipValue(limit=0.5)",
        "Accumulate(steps=2)",
        "LossScale(4.0, grow_every=3)",
        "SkipNonFinite()",
    }
    assert expected == {repr(make()) for make in MAKERS.values()}


WRONG = [
    (lambda: ClipNorm(0.0), "ClipNorm: max_norm must be in (0, inf), got 0.0"),
    (lambda: ClipValue(-1), "ClipValue: limit must be in (0, inf), got -1"),
    (lambda: Accumulate(0), "Accumulate: steps must be an integer >= 1, got 0"),
    (lambda: LossScale(0.0), "LossScale: initial must be in (0, inf), got 0.0"),
    (
        lambda: LossScale(grow_every=0),
        "LossScale: grow_every must be an integer >= 1, got 0",
    ),
    (lambda: Accumulate(2.0), "Accumulate: steps must be an integer >= 1, got 2.0"),
    (
        lambda: ClipNorm(1.0).load_state({"a": 1}),
        "ClipNorm.load_state: expected the entries []; missing [], unknown ['a']"
        + ADVICE,
    ),
    (
        lambda: SkipNonFinite().load_state({}),
        "SkipNonFinite.load_state: expected the entries ['skipped']; missing"
        " ['skipped'], unknown []" + ADVICE,
    ),
    (
        lambda: SkipNonFinite().load_state({"skipped": -1}),
        "SkipNonFinite.load_state: skipped must be an integer >= 0, got -1",
    ),
    (
        lambda: Accumulate(3).load_state({}),
        "Accumulate.load_state: expected the entries ['count']; missing ['count'],"
        " unknown []" + ADVICE,
    ),
    (
        lambda: Accumulate(3).load_state({"count": 1}),
        "Accumulate.load_state: expected the entries ['count', 'total']; missing"
        " ['total'], unknown []" + ADVICE,
    ),
    (
        lambda: Accumulate(3).load_state({"count": 3, "total": np.ones(2)}),
        "Accumulate.load_state: expected a count below steps=3, got 3: make it with the"
        " same steps as the saved one",
    ),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_arguments(call, message):
    with pytest.raises(ConfigError) as caught:
        call()
    assert message == str(caught.value)


def test_accumulate_of_two_models():
    accumulate = Accumulate(2)
    accumulate(np.ones(3))
    with pytest.raises(ShapeError) as caught:
        accumulate(np.ones(4))
    assert str(caught.value) == (
        "Accumulate: expected a vector of shape (3,) as before, got (4,): use an"
        " Accumulate of its own for each model"
    )


def test_bind_starts_the_transforms_afresh():
    accumulate, skip = Accumulate(2), SkipNonFinite()
    params = nn.Dense(2, 1).init(Rng(0)).parameters()
    optimizer = SGD(0.1).bind(params, transforms=[skip, accumulate])
    optimizer.step(np.array([1, 1, 1], "float32"))
    optimizer.step(np.array([np.nan, 1, 1], "float32"))
    optimizer.bind(params, transforms=[skip, accumulate])
    state = optimizer.state()
    assert (state["transforms.0.skipped"], state["transforms.1.count"]) == (0, 0)
