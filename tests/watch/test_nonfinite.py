"""The first NaN or infinity is named, on both ways, and no step is taken."""

import inspect
import math

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.data import Dataset, read_npz
from sillar.errors import NonFiniteError, SillarError
from sillar.watch import find_nonfinite, replay


class Logarithm(nn.Layer):
    def forward(self, x):
        return sl.log(x)


class Masked(nn.Layer):
    """A softmax over what is allowed, as in causal attention."""

    def __init__(self, low=-math.inf):
        self.low = low

    def forward(self, x):
        allowed = np.tril(np.ones(x.shape[-2:], bool))
        return sl.softmax(sl.where(allowed, x, self.low))


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def deep(seventh):
    layers = [nn.Dense(4, 4) for _ in range(8)]
    layers[6] = seventh
    return nn.Sequential(*layers).init(sl.Rng(0))


def line_of(function, text):
    lines, start = inspect.getsourcelines(function)
    return start + next(i for i, line in enumerate(lines) if text in line)


def step(model, optimizer, x, y):
    loss = sl.MSE()(model(x, rng=sl.Rng(0)), y)
    optimizer.step(sl.grad(loss, optimizer.params))


def snapshot(model, optimizer):
    arrays = {**model.state(), **optimizer.state()}
    return {name: np.array(value).tobytes() for name, value in arrays.items()}


X = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)


def test_a_nan_in_the_seventh_layer_is_named_and_the_step_skipped():
    model = deep(Logarithm())
    optimizer = sl.Adam().bind(model.parameters())
    step(deep(nn.Tanh()), optimizer, X, X)  # so that there is a state
    before = snapshot(model, optimizer)
    with pytest.raises(NonFiniteError) as caught, find_nonfinite(model):
        step(model, optimizer, X, X)
    assert before == snapshot(model, optimizer)
    text = str(caught.value)
    line = line_of(Logarithm.forward, "sl.log")
    assert text.startswith("log of float32 (16, 4) from -")
    assert f"layers.6 (Logarithm), test_nonfinite.py:{line} in forward" in text
    assert "NaN of 64 values in its output: keep its inputs away" in text
    assert "on the way back" not in text


def test_the_call_can_be_replayed_from_a_file_without_pickle():
    model = deep(Logarithm())
    with (
        pytest.raises(NonFiniteError, match=r"replay\('nonfinite.npz'\)"),
        find_nonfinite(model),
    ):
        model(X)
    inputs = read_npz("nonfinite.npz")["input0"]
    with np.errstate(invalid="ignore"):
        expected, got = np.log(inputs), replay("nonfinite.npz").numpy()
    assert np.isnan(expected).any()
    np.testing.assert_array_equal(expected, got)


def test_a_weight_that_is_not_finite_is_named():
    model = deep(nn.Dense(4, 4))
    for bad in (np.nan, np.inf, -np.inf):
        model.parameters()["layers.6.weight"].data[1, 2] = bad
        with pytest.raises(NonFiniteError) as caught, find_nonfinite(model):
            model(X)
        assert "input 1, parameter layers.6.weight, was" in str(caught.value)
        assert "layers.6 (Dense)" in str(caught.value)


def test_data_that_is_not_finite_is_named():
    model = deep(nn.Tanh())
    for bad in (np.nan, np.inf):
        x = X.copy()
        x[3, 1] = bad
        with (
            pytest.raises(NonFiniteError, match="clean the data") as caught,
            find_nonfinite(model),
        ):
            model(x)
        assert "matmul of float32 (16, 4)" in str(caught.value)
        assert "in input 0, given from outside, was not finite" in str(caught.value)


def test_an_overflow_on_the_way_back_is_named_and_the_step_skipped():
    class Steep(nn.Layer):
        def forward(self, x):
            return x * 1e-30 * 1e20

    model = nn.Sequential(nn.Dense(4, 4), Steep(), nn.Dense(4, 1)).init(sl.Rng(0))
    optimizer = sl.Adam().bind(model.parameters())
    before = snapshot(model, optimizer)
    losses = []

    def step():
        losses.append((model(X) * 1e30).sum())
        optimizer.step(sl.grad(losses[0], optimizer.params))

    with pytest.raises(NonFiniteError) as caught, find_nonfinite(model):
        step()
    assert math.isfinite(losses[0].item())
    assert before == snapshot(model, optimizer)
    text = str(caught.value)
    assert text.startswith("multiply of float32 (16, 4) from ")
    assert "infinite of 64 values in its output: lower the learning rate" in text
    line = line_of(Steep.forward, "1e20")
    where = f"layers.1 (Steep), test_nonfinite.py:{line} in forward, on the way back"
    assert where in text
    assert np.isinf(replay("nonfinite.npz").numpy()).any()


def test_a_root_of_zero_has_no_gradient():
    x = sl.Tensor([0.0, 1.0], requires_grad=True)
    with (
        pytest.raises(NonFiniteError, match=r"divide of .* on the way back"),
        find_nonfinite(),
    ):
        sl.grad(sl.sqrt(x).sum(), x)


def test_the_loop_goes_on_after_a_bad_batch():
    model = nn.Sequential(nn.Dense(4, 4)).init(sl.Rng(0))
    optimizer = sl.SGD(0.1).bind(model.parameters())
    bad = np.where(X > 1.5, np.nan, X)
    assert np.isnan(bad).any()
    skipped = 0
    for x in (X, bad, X):
        try:
            with find_nonfinite(model):
                step(model, optimizer, x, X)
        except NonFiniteError:
            skipped += 1
    assert (skipped, optimizer.updates) == (1, 2)
    assert all(np.isfinite(value).all() for value in model.state().values())


def test_fit_raises_and_changes_nothing():
    layers = nn.Dense(4, 4), nn.BatchNorm(4), nn.Dense(4, 2)
    model = nn.Sequential(*layers).init(sl.Rng(0))
    model.parameters()["layers.2.weight"].data[...] = 3e38
    before = {k: v.tobytes() for k, v in model.state().items()}
    optimizer = sl.Adam()
    with (
        pytest.raises(NonFiniteError, match=r"layers.2 \(Dense\)"),
        find_nonfinite(model),
    ):
        sl.fit(model, sl.MSE(), optimizer, Dataset(X, X[:, :2]), callbacks=[])
    assert before == {k: v.tobytes() for k, v in model.state().items()}
    assert optimizer.updates == 0


def test_masks_pass_on_both_ways_and_to_second_order():
    model = nn.Sequential(nn.Dense(4, 4), Masked()).init(sl.Rng(0))
    x = sl.Tensor(X[:4], requires_grad=True)
    additive = np.triu(np.full((4, 4), -np.inf, np.float32), 1)
    with find_nonfinite(model):
        y = model(x)
        (dx,) = sl.grad((y * y).sum(), [x], create_graph=True)
        sl.grad((dx * dx).sum(), x)
        z = sl.softmax(x + additive)
        sl.grad((z * z).sum(), x)
        nn.MaxPool2D(2, padding=1)(X.reshape(1, 4, 16, 1))


@pytest.mark.parametrize("causal", [True, False])
def test_attention_with_masks_passes(causal):
    blocks = (nn.TransformerBlock(4, 2, causal=causal) for _ in range(2))
    model = nn.Sequential(*blocks).init(sl.Rng(0))
    x = X.reshape(2, 8, 4)
    with find_nonfinite(model):
        sl.grad((model(x, rng=sl.Rng(1)) * x).sum(), model.parameters())


def test_a_row_that_is_masked_whole_is_a_fault():
    x = sl.Tensor(X, requires_grad=True)
    nothing = np.zeros((16, 1), bool)
    with (
        pytest.raises(NonFiniteError, match="from infinities such as a mask's"),
        find_nonfinite(),
    ):
        sl.softmax(sl.where(nothing, x, -math.inf))


def test_an_overflow_beside_a_mask_is_found():
    x = sl.Tensor(np.full((2, 2), 80.0, np.float32))
    mask = np.array([[0.0, -np.inf], [0.0, 0.0]], np.float32)
    with (
        pytest.raises(NonFiniteError, match=r"exp of .* 3 infinite of 4 values"),
        find_nonfinite(),
    ):
        sl.exp((x + mask) * 2.0)


def test_infinities_can_be_allowed():
    x = sl.Tensor([0.0, 1.0])
    with find_nonfinite(infinities=False):
        y = sl.log(x)
    assert y.numpy()[0] == -np.inf
    with (
        pytest.raises(NonFiniteError, match="1 NaN of 2"),
        find_nonfinite(infinities=False),
    ):
        y * 0.0


def test_integers_and_empty_arrays_pass():
    with find_nonfinite():
        sl.exp(np.ones((0, 3), np.float32))
        sl.argmax(sl.Tensor([1, 2]) * 2)


def test_a_nan_in_the_program_is_named():
    with (
        pytest.raises(NonFiniteError, match="input 2, given from outside"),
        find_nonfinite(),
    ):
        sl.where(X > 0, X, math.nan)


def test_it_is_a_floating_point_error_and_ours():
    assert issubclass(NonFiniteError, SillarError)
    assert issubclass(NonFiniteError, FloatingPointError)


def test_where_nothing_can_be_written_the_operation_is_named_still():
    with (
        pytest.raises(NonFiniteError, match=r"could not be saved at 'no/such\.npz'"),
        find_nonfinite(path="no/such.npz"),
    ):
        sl.log(sl.Tensor([-1.0]))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: sl.sum(x, axis=(0, 1), keepdims=True), "sum"),
        (lambda x: sl.Tensor(x)[1:, ..., None, [0, 1]], "getitem"),
        (lambda x: sl.Tensor(x).astype("float64"), "astype"),
        (lambda x: sl.einsum("ij,kj->ik", x, x), "einsum"),
        (lambda x: nn.AvgPool2D(2)(x[None, ..., None]), "sum_pool"),
        (lambda x: sl.Tensor(x) * 2.5, "multiply"),
    ],
)
def test_any_call_can_be_saved_and_replayed(call, name):
    from sillar.watch.replay import save_call

    class Saves(sl.watch.Listener):
        def after(self, primitive, args, arrays, static, out):
            if primitive.name == name:
                save_call("call.npz", primitive, arrays, static)
                self.expected = out

    with Saves() as saves:
        call(X[:4])
    got = replay("call.npz")
    assert saves.expected.dtype == got.dtype
    np.testing.assert_array_equal(saves.expected.numpy(), got.numpy())


def test_replay_says_what_is_wrong_with_a_file(tmp_path):
    np.savez("other.npz", x=X)
    with pytest.raises(sl.errors.DataError, match="holds no saved call"):
        replay("other.npz")
    text = '{"primitive": "unheard", "inputs": [], "static": {}}'
    np.savez("unknown.npz", call=np.array(text))
    with pytest.raises(sl.errors.ConfigError, match="import the module"):
        replay("unknown.npz")
    text = '{"primitive": "exp", "inputs": [1.0], "static": {"f": {"unknown": ["g"]}}}'
    np.savez("odd.npz", call=np.array(text))
    with pytest.raises(sl.errors.ConfigError, match="give it by keyword"):
        replay("odd.npz")
