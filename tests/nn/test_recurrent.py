"""Recurrent layers held against PyTorch's, and what they promise beyond those."""

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import sillar as sl
from sillar import nn
from sillar.errors import ConfigError, ShapeError
from sillar.testing import check_layer
from sillar.testing.cases.layers import normal

KINDS = {
    "RNN": (nn.RNN, torch.nn.RNN, {}),
    "RNN-relu": (nn.RNN, torch.nn.RNN, {"nonlinearity": "relu"}),
    "LSTM": (nn.LSTM, torch.nn.LSTM, {}),
    "GRU": (nn.GRU, torch.nn.GRU, {}),
}
every_kind = pytest.mark.parametrize(
    ("ours", "theirs", "options"), KINDS.values(), ids=KINDS
)
OPTIONS = [
    {"layers": layers, "bidirectional": both, "bias": bias}
    for layers, both, bias in product((1, 2, 3), (False, True), (True, False))
]
LENGTHS = [5, 1, 3]
MASK = np.arange(5) < np.array(LENGTHS)[:, None]


def pair(ours, theirs, dtype="float32", **options):
    """Return a layer of ours and PyTorch's with the same weights."""
    layer = ours(4, 6, **options)
    options["num_layers"] = options.pop("layers", 1)
    other = theirs(4, 6, batch_first=True, **options).to(getattr(torch, dtype))
    with torch.no_grad():
        for i, p in enumerate(other.parameters()):
            p.copy_(torch.tensor(normal(*p.shape, seed=i)) * 0.5)
    return nn.from_torch(layer, other.state_dict()), other


def near(expected, got, tolerance=1e-5):
    expected = expected.detach().numpy()
    scale = max(1.0, np.abs(expected).max(initial=0))
    tolerances = {"rtol": tolerance, "atol": tolerance * scale}
    np.testing.assert_allclose(got.numpy(), expected, **tolerances)


def first_states(layer, dtype):
    """Return a first state for us, and the same for PyTorch."""
    shape = (3, layer.states, len(layer.names), 6)
    state = sl.Tensor(normal(*shape, seed=5).astype(dtype), requires_grad=True)
    theirs = [
        torch.tensor(state.numpy()[:, i].transpose(1, 0, 2).copy(), requires_grad=True)
        for i in range(layer.states)
    ]
    return state, theirs


def compare(layer, other, x, *, with_state, mask, tolerance=1e-5):
    """Compare outputs, last states, and the gradients of everything."""
    ours, theirs = sl.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    state, hx = first_states(layer, x.dtype) if with_state else (None, None)
    sequence = theirs
    if mask is not None:
        lengths = mask.sum(axis=1)
        sequence = pack_padded_sequence(theirs, lengths, True, enforce_sorted=False)
    given = None if hx is None else tuple(hx) if layer.states > 1 else hx[0]
    expected, ends = other(sequence, given)
    if mask is not None:
        expected, _ = pad_packed_sequence(expected, True, total_length=x.shape[1])
    y, end = layer.unroll(ours, state, mask)
    near(expected, y, tolerance)
    for i, theirs_end in enumerate(ends if layer.states > 1 else [ends]):
        near(theirs_end.transpose(0, 1), end[:, i], tolerance)
    inputs = [v for v in (ours, state, mask) if v is not None]
    near(expected, layer(*inputs), tolerance)

    u = normal(*y.shape, seed=9).astype(x.dtype)
    w = normal(*end.shape, seed=8).astype(x.dtype)
    total = (y * u).sum() + (end * w).sum()
    ends = torch.stack(list(ends)) if layer.states > 1 else ends[None]
    weighed = ends * torch.tensor(w.transpose(1, 2, 0, 3).copy())
    ((expected * torch.tensor(u)).sum() + weighed.sum()).backward()
    near(theirs.grad, sl.grad(total, ours), tolerance)
    for path, g in sl.grad(total, layer.parameters()).items():
        near(getattr(other, path).grad.t(), g, tolerance)
    for i, h in enumerate(hx or ()):
        near(h.grad.transpose(0, 1), sl.grad(total, state)[:, i], tolerance)


@every_kind
@pytest.mark.parametrize("more", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_outputs_states_and_gradients_are_those_of_pytorch(
    ours, theirs, options, more, dtype
):
    layer, other = pair(ours, theirs, dtype, **options, **more)
    x = normal(3, 5, 4).astype(dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for with_state, mask in product((False, True), (None, MASK)):
        other.zero_grad()
        compare(layer, other, x, with_state=with_state, mask=mask, tolerance=tolerance)


@every_kind
@pytest.mark.parametrize("more", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_outputs_alone_and_their_gradients_are_those_of_pytorch(
    ours, theirs, options, more, dtype
):
    layer, other = pair(ours, theirs, dtype, **options, **more)
    x = normal(3, 5, 4).astype(dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    inner, outer = sl.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, (expected, _) = layer(inner), other(outer)
    assert y.dtype == dtype
    near(expected, y, tolerance)
    u = normal(*y.shape, seed=9).astype(dtype)
    expected.backward(torch.tensor(u))
    named = dict(layer.parameters())
    gradients = sl.grad(y, {"x": inner, **named}, cotangents=sl.Tensor(u))
    near(outer.grad, gradients.pop("x"), tolerance)
    for path, g in gradients.items():
        near(getattr(other, path).grad.t(), g, tolerance)


@every_kind
@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 7, 4), (3, 1, 4), (2, 33, 4)])
def test_odd_sizes(ours, theirs, options, shape):
    layer, other = pair(ours, theirs, bidirectional=True, **options)
    x = normal(*shape).astype("float32")
    near(other(torch.tensor(x))[0], layer(x))


@every_kind
def test_an_empty_batch_has_empty_outputs(ours, theirs, options):
    layer, _ = pair(ours, theirs, layers=2, bidirectional=True, **options)
    y, state = layer.unroll(np.zeros((0, 5, 4), "float32"))
    assert (y.shape, state.shape) == ((0, 5, 12), (0, layer.states, 4, 6))


@every_kind
def test_last_is_what_each_direction_ends_with(ours, theirs, options):
    full, _ = pair(ours, theirs, layers=2, bidirectional=True, **options)
    short = ours(4, 6, layers=2, bidirectional=True, last=True, **options)
    short.init(sl.Rng(0)).load_state(full.state())
    x = normal(3, 5, 4).astype("float32")
    for more in ((), (MASK,)):
        y, end = full.unroll(x, None, *more)
        expected = np.concatenate([end.numpy()[:, 0, -2], end.numpy()[:, 0, -1]], 1)
        got = short(x, *more).numpy()
        np.testing.assert_allclose(expected, got, rtol=1e-5, atol=1e-6)
        assert short.unroll(x, None, *more)[0].shape == y.shape


@every_kind
def test_a_state_carries_a_sequence_on(ours, theirs, options):
    layer, _ = pair(ours, theirs, layers=2, **options)
    x = normal(3, 6, 4).astype("float32")
    first, state = layer.unroll(x[:, :2])
    second, _ = layer.unroll(x[:, 2:], state)
    joined = np.concatenate([first.numpy(), second.numpy()], axis=1)
    np.testing.assert_allclose(joined, layer(x).numpy(), rtol=1e-5, atol=1e-6)


def test_where_the_mask_is_false_nothing_moves_and_inputs_do_not_count():
    layer = nn.GRU(4, 6).init(sl.Rng(0))
    mask = np.array([[False, True, False, True, False]])
    x = normal(1, 5, 4).astype("float32")
    y, end = layer.unroll(x, None, mask)
    assert not y.numpy()[~mask].any()
    expected = layer(x[:, [1, 3]]).numpy()
    np.testing.assert_allclose(expected, y.numpy()[:, [1, 3]], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(y.numpy()[:, 3], end.numpy()[:, 0, 0])
    x[:, [0, 2, 4]] = 99
    np.testing.assert_array_equal(y.numpy(), layer(x, mask).numpy())


def test_a_mask_of_nothing_keeps_the_first_state():
    layer = nn.LSTM(4, 6, layers=2).init(sl.Rng(0))
    state = normal(2, 2, 2, 6).astype("float32")
    _, end = layer.unroll(np.ones((2, 3, 4), "float32"), state, np.zeros((2, 3), bool))
    np.testing.assert_array_equal(state, end.numpy())


def test_dropout_lies_between_layers_in_training_only():
    x = normal(3, 5, 4).astype("float32")
    one = nn.LSTM(4, 6, dropout=0.9).init(sl.Rng(0))
    two = nn.LSTM(4, 6, layers=2, dropout=0.9).init(sl.Rng(0))
    np.testing.assert_array_equal(one(x).numpy(), one(x, rng=sl.Rng(1)).numpy())
    assert not np.array_equal(two(x).numpy(), two(x, rng=sl.Rng(1)).numpy())
    plain = nn.LSTM(4, 6, layers=2).init(sl.Rng(0))
    np.testing.assert_array_equal(plain(x).numpy(), two(x).numpy())


def test_first_weights_are_uniform():
    layer = nn.LSTM(40, 100).init(sl.Rng(0))
    for p in layer.parameters().values():
        assert -0.1 <= p.numpy().min() < -0.099 < 0.099 < p.numpy().max() <= 0.1


def test_a_network_learns_to_remember():
    """The first of five bits is the class: only a state can know it at the end."""
    bits = np.random.default_rng(0).integers(0, 2, (256, 5))
    x, y = bits[..., None].astype("float32"), bits[:, 0]
    for kind in (nn.LSTM, nn.GRU):
        model = nn.Sequential(kind(1, 16, last=True), nn.Dense(16, 2)).init(sl.Rng(0))
        optimizer = sl.Adam(lr=0.03).bind(model.parameters())

        def step(x, y, model=model, optimizer=optimizer):
            loss = sl.CrossEntropy()(model(x), y)
            optimizer.step(sl.grad(loss, model.parameters()))
            return loss

        compiled = sl.compile(step)
        for _ in range(80):
            compiled(x, y)
        assert (model(x).numpy().argmax(axis=1) == y).mean() > 0.98


class Minimal(nn.Recurrent):
    """Minimal gated unit (Zhou et al. 2016), its gate after the product."""

    gates = 2

    def cell(self, a, b, state):
        f = sl.sigmoid(a[0] + b[0])
        n = sl.tanh(a[1] + f * b[1])
        return [state[0] + f * (n - state[0])]


def test_a_cell_of_ones_own():
    layer = Minimal(3, 4, layers=2, bidirectional=True, dropout=0.2)
    mask = np.array([[True, True, False], [True, False, False]])
    check_layer(layer, normal(2, 3, 3))
    check_layer(layer, normal(2, 3, 3), normal(2, 1, 4, 4), mask)
    check_layer(Minimal(3, 4, bias=False, last=True), normal(2, 3, 3))

    layer = Minimal(3, 2).init(sl.Rng(0), "float64")
    w_i, w_h, b_i, b_h = (p.numpy() for p in layer.parameters().values())
    x, h = normal(5, 4, 3), np.zeros((5, 2))
    for t in range(4):
        a, b = x[:, t] @ w_i + b_i, h @ w_h + b_h
        f = 1 / (1 + np.exp(-(a + b)[:, :2]))
        h = (1 - f) * h + f * np.tanh(a[:, 2:] + f * b[:, 2:])
        np.testing.assert_allclose(h, layer(x).numpy()[:, t], rtol=1e-12)


def test_inputs_that_do_not_fit_are_named():
    layer = nn.LSTM(4, 6, layers=2).init(sl.Rng(0))
    x = np.zeros((3, 5, 4), "float32")
    for wrong in (x[0], x[..., :3], x[:, :0], x[None]):
        with pytest.raises(ShapeError, match=r"expected input \(batch, time, 4\)"):
            layer(wrong)
    for state in (np.zeros((2, 3, 6), "float32"), np.zeros((3, 1, 2, 6), "float32")):
        with pytest.raises(ShapeError, match=r"of shape \(3, 2, 2, 6\), got"):
            layer(x, state)
    with pytest.raises(ShapeError, match=r"a mask of booleans \(3, 5\).*got bool"):
        layer(x, MASK[:2])
    with pytest.raises(ShapeError, match=r"a mask of booleans.*got float64"):
        layer.unroll(x, mask=MASK.astype("float64"))
    state = np.zeros((3, 2, 2, 6), "float32")
    with pytest.raises(ShapeError, match="after them a mask of truths"):
        layer(x, state, MASK.astype("float32"))


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_arguments_are_checked(kind):
    name = kind.__name__
    for given, message in (
        ({"n_in": 0}, f"{name}: n_in must be an integer >= 1, got 0"),
        ({"n_hidden": 1.5}, f"{name}: n_hidden must be an integer >= 1, got 1.5"),
        ({"layers": 0}, f"{name}: layers must be an integer >= 1, got 0"),
        ({"layers": 2000}, f"{name}: layers must be at most 1000, got 2000"),
        ({"dropout": 1.0}, r"must be in \[0, 1\), got 1.0"),
    ):
        with pytest.raises(ConfigError, match=message):
            kind(**{"n_in": 1, "n_hidden": 1, **given})
    with pytest.raises(ConfigError, match="nonlinearity must be 'tanh' or 'relu'"):
        nn.RNN(1, 1, nonlinearity="sine")
