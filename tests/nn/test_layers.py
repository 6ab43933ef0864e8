"""Every layer through the public check, and what is particular to each."""

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.errors import ConfigError, DataError, DtypeError, ShapeError
from sillar.nn.architecture import CONTAINERS, LAYERS
from sillar.testing import check_layer
from sillar.testing.cases.layers import CASES, SOBEL, normal

every_layer = pytest.mark.parametrize(("layer", "inputs"), CASES.values(), ids=CASES)


@every_layer
def test_layers_keep_the_promises_of_a_layer(layer, inputs):
    check_layer(layer, *inputs)


def test_every_layer_has_a_case():
    assert {type(layer).__name__ for layer, _ in CASES.values()} == {
        *LAYERS,
        *CONTAINERS,
    }


@every_layer
def test_constructors_keep_their_arguments_and_show_them(layer, inputs):
    text = repr(layer)
    assert text.startswith(type(layer).__name__)
    if type(layer).__name__ not in CONTAINERS and "fixed" not in text:
        assert repr(eval(text, vars(nn))) == text


# layer, what it takes, what it got
MISTAKES = {
    "Dense": (nn.Dense(3, 2), normal(4, 2), r"\(\.\.\., 3\), got \(4, 2\)"),
    "Dense-scalar": (nn.Dense(3, 2), np.array(1.0), r"\(\.\.\., 3\), got \(\)"),
    "Conv2D": (
        nn.Conv2D(3, 2, 3),
        normal(2, 5, 5, 1),
        r"\(n, height, width, 3\), got \(2, 5, 5, 1\)",
    ),
    "Conv2D-axes": (nn.Conv2D(1, 2, 3), normal(5, 5, 1), r"got \(5, 5, 1\)"),
    "Conv2D-small": (
        nn.Conv2D(1, 2, 3, dilation=2),
        normal(1, 4, 9, 1),
        r"a window over \(5, 5\) cells .* images of \(4, 9\)",
    ),
    "MaxPool2D": (nn.MaxPool2D(2), normal(4, 4), r"height, width.* got \(4, 4\)"),
    "MaxPool2D-small": (
        nn.MaxPool2D(3),
        normal(1, 2, 5, 1),
        r"a window over \(3, 3\) cells .* images of \(2, 5\)",
    ),
    "AvgPool2D": (nn.AvgPool2D(2), normal(4, 4, 2), r"got \(4, 4, 2\)"),
    "Attention": (
        nn.Attention(4, 2),
        normal(2, 3, 2),
        r"input \(batch, tokens, 4\), got \(2, 3, 2\)",
    ),
    "TransformerBlock": (
        nn.TransformerBlock(4, 2),
        normal(2, 3),
        r"\(batch, tokens, 4\), got \(2, 3\)",
    ),
    "GPT": (
        nn.GPT(5, 2, blocks=1, heads=1, context=2),
        np.array([[1, 2, 3]]),
        r"n at most 2, got \(1, 3\)",
    ),
    "LearnedPositions": (
        nn.LearnedPositions(2, 4),
        normal(1, 3, 4),
        r"at most 2 tokens, got \(1, 3, 4\)",
    ),
    "SinusoidalPositions": (
        nn.SinusoidalPositions(4),
        normal(3, 4),
        r"\(batch, tokens, 4\), got \(3, 4\)",
    ),
    "GlobalAvgPool2D": (nn.GlobalAvgPool2D(), normal(4, 4, 2), r"got \(4, 4, 2\)"),
    "GlobalMaxPool2D": (nn.GlobalMaxPool2D(), normal(4, 2), r"got \(4, 2\)"),
    "GlobalMaxPool2D-empty": (
        nn.GlobalMaxPool2D(),
        normal(2, 0, 3, 1),
        r"largest from in \(2, 0, 3, 1\)",
    ),
    "GlobalAvgPool1D": (nn.GlobalAvgPool1D(), normal(4, 2), r"channels\), got \(4, 2"),
    "GlobalMaxPool1D": (nn.GlobalMaxPool1D(), normal(4, 2), r"channels\), got \(4, 2"),
    "MaxPool1D": (nn.MaxPool1D(2), normal(4, 2), r"length, channels\), got \(4, 2"),
    "AvgPool1D": (nn.AvgPool1D(2), normal(4, 2), r"length, channels\), got \(4, 2"),
    "Conv1D": (nn.Conv1D(3, 2, 3), normal(2, 5, 1), r"length, 3\), got \(2, 5, 1\)"),
    "Conv1D-short": (
        nn.Conv1D(1, 2, 3, dilation=2),
        normal(1, 4, 1),
        r"a window over \(1, 5\) cells .* images of \(1, 4\)",
    ),
    "Conv2DTranspose": (
        nn.Conv2DTranspose(3, 2, 3),
        normal(2, 5, 5, 1),
        r"\(n, height, width, 3\), got \(2, 5, 5, 1\)",
    ),
    "Conv2DTranspose-small": (
        nn.Conv2DTranspose(1, 2, 1, padding=1),
        normal(2, 2, 5, 1),
        r"images \(2, 5\) would become \(0, 3\): use less padding",
    ),
    "DepthwiseConv2D": (
        nn.DepthwiseConv2D(3, 2),
        normal(2, 5, 5, 1),
        r"\(n, height, width, 3\), got \(2, 5, 5, 1\)",
    ),
    "SeparableConv2D": (
        nn.SeparableConv2D(3, 2, 2),
        normal(2, 5, 5, 1),
        r"\(n, height, width, 3\), got \(2, 5, 5, 1\)",
    ),
    "ConvNet": (
        nn.ConvNet(3, 2),
        normal(2, 5, 5, 1),
        r"\(n, height, width, 3\), got \(2, 5, 5, 1\)",
    ),
    "ResNet": (nn.ResNet(3, 2), normal(5, 5, 3), r"width, 3\), got \(5, 5, 3\)"),
    "ResidualBlock": (
        nn.ResidualBlock(3, 2),
        normal(2, 5, 5, 1),
        r"\(n, height, width, 3\), got \(2, 5, 5, 1\)",
    ),
    "GroupNorm": (nn.GroupNorm(1, 3), normal(4, 2), r"\(\.\.\., 3\), got \(4, 2\)"),
    "BatchNorm": (nn.BatchNorm(3), normal(4, 2), r"\(\.\.\., 3\), got \(4, 2\)"),
    "LayerNorm": (nn.LayerNorm(3), normal(4, 2), r"\(\.\.\., 3\), got \(4, 2\)"),
    "RNN": (nn.RNN(3, 2), normal(4, 3), r"\(batch, time, 3\).* got \(4, 3\)"),
    "LSTM": (nn.LSTM(3, 2), normal(2, 0, 3), r"one step, got \(2, 0, 3\)"),
    "GRU": (nn.GRU(3, 2), normal(2, 4, 2), r"\(batch, time, 3\).* got \(2, 4, 2\)"),
    "Flatten": (nn.Flatten(), np.array(1.0), r"\(n, \.\.\.\), got a scalar"),
    "Softmax": (nn.Softmax(axis=2), normal(2, 3), r"\(2, 3\), axis=2"),
    "ReconstructionError": (
        nn.ReconstructionError(nn.Flatten()),
        normal(2, 3, 1),
        r"give back \(2, 3, 1\), got \(2, 3\)",
    ),
    "CodedDense": (nn.CodedDense(3, 2, [2]), normal(4, 2), r"\(\.\.\., 3\), got"),
    "Softmax-empty": (nn.Softmax(), normal(2, 0), r"\(2, 0\)"),
}
ANY_SHAPE = {
    *("Dropout", "ELU", "GELU", "LeakyReLU", "ReLU", "Sigmoid", "SiLU", "Softplus"),
    *("Tanh", "Sequential", "Parallel", "Rescaling"),
    "Embedding",  # takes indices of any shape; what they may hold is tested below
}


@pytest.mark.parametrize(("layer", "x", "message"), MISTAKES.values(), ids=MISTAKES)
def test_wrong_shapes_are_reported_at_the_layer(layer, x, message):
    model = nn.Sequential(nn.Sequential(layer)).init(sl.Rng(0), "float64")
    for rng in (None, sl.Rng(0)):
        with pytest.raises(ShapeError, match=message) as caught:
            model(x, rng=rng)
        assert str(caught.value).endswith(
            f"[in Sequential > Sequential > {layer._label()}]"
        )


def test_every_layer_refuses_a_wrong_shape_or_takes_any():
    refusing = {type(layer).__name__ for layer, *_ in MISTAKES.values()}
    assert refusing.isdisjoint(ANY_SHAPE)
    assert refusing | ANY_SHAPE == {*LAYERS, *CONTAINERS}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Dense(0, 2), "n_in must be an integer >= 1, got 0"),
        (lambda: nn.Dense(2, 2.5), "n_out must be an integer >= 1, got 2.5"),
        (lambda: nn.Dense(2, True), "n_out must be an integer >= 1, got True"),
        (lambda: nn.Dense(2, "3"), "n_out must be an integer >= 1, got '3'"),
        (lambda: nn.Embedding(-1, 2), "n must be an integer >= 1"),
        (lambda: nn.Dropout(1.0), r"p must be in \[0, 1\), got 1.0"),
        (lambda: nn.Dropout(float("nan")), r"p must be in \[0, 1\), got nan"),
        (lambda: nn.Conv2D(1, 1, 0), "kernel must be an integer >= 1, got 0"),
        (lambda: nn.Conv2D(1, 1, (1, 2, 3)), r"one integer or \(rows, columns\)"),
        (lambda: nn.Conv2D(1, 1, 3, stride=0), "stride must be"),
        (lambda: nn.Conv2D(1, 1, 3, padding=-1), "padding must be"),
        (lambda: nn.Conv2D(1, 1, 3, padding="valid"), "integers, or 'same'"),
        (lambda: nn.Conv2D(1, 1, 3, padding="same", stride=2), "with stride 1"),
        (lambda: nn.Conv2D(3, 4, 3, groups=2), "groups must divide"),
        (lambda: nn.Attention(4, 3), "heads must divide width, got 3 and 4"),
        (lambda: nn.Attention(4, 2, kv_width=0), "kv_width must be an integer >= 1"),
        (lambda: nn.Attention(3, 1, rotary=True), "must be even, got 3"),
        (lambda: nn.Attention(4, 2, dropout=1), r"dropout must be in \[0, 1\), got 1"),
        (lambda: nn.TransformerBlock(4, 2, hidden=0), "hidden must be an integer >= 1"),
        (
            lambda: nn.GPT(5, 4, blocks=0, heads=2, context=3),
            "GPT: blocks must be an integer >= 1",
        ),
        (
            lambda: nn.GPT(5, 4, blocks=10**12, heads=2, context=3),
            "GPT: blocks must be at most 1000",
        ),
        (lambda: nn.SinusoidalPositions(3), "width must be even, got 3"),
        (lambda: nn.MaxPool2D(2, padding=2), "at most half the window"),
        (lambda: nn.MaxPool1D(2, padding=2), "at most half the window 2"),
        (lambda: nn.AvgPool1D((1, 2)), r"AvgPool1D: size must be an integer"),
        (lambda: nn.Conv1D(1, 1, 3, padding="valid"), "'same' or 'causal'"),
        (lambda: nn.Conv1D(1, 1, 3, padding="causal", stride=2), "with stride 2"),
        (lambda: nn.Conv1D(3, 4, 3, groups=2), "Conv1D: groups must divide"),
        (lambda: nn.Conv2DTranspose(1, 1, 3, padding="same"), "padding must be"),
        (lambda: nn.Conv2DTranspose(1, 1, 3, output_padding=-1), "output_padding must"),
        (lambda: nn.DepthwiseConv2D(2, 3, depth_multiplier=0), "depth_multiplier must"),
        (lambda: nn.SeparableConv2D(0, 2, 3), "c_in must be an integer >= 1, got 0"),
        (lambda: nn.ConvNet(1, 2, widths=()), r"widths must be one integer or more"),
        (lambda: nn.ConvNet(1, 2, widths=16), r"as in \(16, 32\), got 16"),
        (lambda: nn.ResNet(1, 2, widths=(4, 0)), "widths must be an integer >= 1"),
        (lambda: nn.ResNet(1, 2, depth=0), "depth must be an integer >= 1, got 0"),
        (lambda: nn.ResNet(1, 2, depth=(1, 2)), r"one for each of the widths \(16"),
        (lambda: nn.ResNet(1, 2, stride=0), "ResNet: stride must be an integer >= 1"),
        (lambda: nn.ResidualBlock(1, 2, stride=1.5), "stride must be an integer"),
        (lambda: nn.GroupNorm(2, 3), "groups must divide the channels, got 2 groups"),
        (lambda: nn.BatchNorm(2, momentum=1.5), r"momentum must be in \[0, 1\]"),
        (lambda: nn.LayerNorm(2, eps=0), "eps must be > 0"),
        (lambda: nn.LeakyReLU("x"), "slope must be a finite number, got 'x'"),
        (lambda: nn.ELU(float("inf")), "alpha must be a finite number, got inf"),
        (lambda: nn.Softmax(1.5), "axis must be an integer, got 1.5"),
        (lambda: nn.Sequential(nn.ReLU(), np.tanh), "expected layers, got <ufunc"),
        (lambda: nn.Sequential([nn.ReLU()]), "expected layers, got \\["),
        (lambda: nn.ReLU().init(0), r"expected sillar.Rng\(seed\), got 0"),
    ],
)
def test_wrong_arguments_name_the_argument_and_its_range(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_sizes_may_be_numpys_integers():
    layer = nn.Dense(np.int64(3), np.arange(3).max() + 1).init(sl.Rng(0))
    assert repr(layer) == "Dense(3, 3)"
    assert layer(normal(2, 3)).shape == (2, 3)


def test_hyperparameters_may_be_numpys_numbers_and_keep_float32():
    x = normal(3, 4).astype("float32")
    p = np.float64(0.25)
    layers = nn.Dropout(p), nn.LeakyReLU(p), nn.ELU(p), nn.LayerNorm(4, eps=p)
    for layer in (*layers, nn.BatchNorm(4, momentum=p, eps=p)):
        assert layer.init(sl.Rng(0))(x, rng=sl.Rng(1)).dtype == "float32"


def test_dropout_scales_what_it_keeps_and_drops_the_rest():
    x = normal(200, 50)
    layer, rng = nn.Dropout(0.3), sl.Rng(0)
    y = layer(x, rng=rng).numpy()
    kept = y != 0
    np.testing.assert_allclose(np.where(kept, x / 0.7, 0), y)
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.3 * 0.7 / x.size)


def test_dropout_draws_from_the_rng_and_only_in_training():
    x, layer = np.ones((10, 10)), nn.Dropout(0.5)
    first = layer(x, rng=sl.Rng(0)).numpy()
    np.testing.assert_array_equal(first, layer(x, rng=sl.Rng(0)).numpy())
    assert not np.array_equal(first, layer(x, rng=sl.Rng(1)).numpy())
    np.testing.assert_array_equal(x, layer(x).numpy())


def test_two_dropouts_of_one_step_draw_differently():
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    kept = model(np.ones((100, 100)), rng=sl.Rng(0)).numpy() != 0
    assert abs(kept.mean() - 0.25) < 0.02


def test_dropouts_gradient_has_the_mask_of_the_forward():
    x = sl.Tensor(np.ones((5, 5)), requires_grad=True)
    y = nn.Dropout(0.5)(x, rng=sl.Rng(0))
    np.testing.assert_array_equal(y.numpy(), sl.grad(y.sum(), x).numpy())


def test_training_ends_with_the_call_even_after_an_error():
    class Broken(nn.Layer):
        def forward(self, x):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Broken()(1.0, rng=sl.Rng(0))
    assert not nn.is_training()
    assert nn.next_rng() is None


def test_embedding_refuses_indices_that_it_does_not_have():
    layer = nn.Embedding(5, 2).init(sl.Rng(0))
    with pytest.raises(DataError, match=r"indices must be in \[0, 5\), got -1 to 5"):
        layer(np.array([-1, 5]))
    with pytest.raises(DtypeError, match="expected integer indices, got float64"):
        layer(np.array([1.0]))
    assert layer(np.array([], int)).shape == (0, 2)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "uint64"])
def test_embedding_takes_integers_of_every_kind(dtype):
    layer = nn.Embedding(5, 2).init(sl.Rng(0))
    indices = np.array([[0, 4], [4, 1]], dtype)
    np.testing.assert_array_equal(layer.weight.numpy()[indices], layer(indices).numpy())


def test_batch_norm_needs_two_values_per_channel_in_training():
    layer = nn.BatchNorm(3).init(sl.Rng(0), "float64")
    with pytest.raises(ShapeError, match="two values or more per channel"):
        layer(normal(1, 3), rng=sl.Rng(0))
    assert layer(normal(1, 3)).shape == (1, 3)
    assert layer(normal(1, 2, 1, 3), rng=sl.Rng(0)).shape == (1, 2, 1, 3)


def gabor(size, angle):
    """Return an oriented ripple under a bell, as simple cells of the eye answer to."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    along = x * np.cos(angle) + y * np.sin(angle)
    return np.exp(-(x * x + y * y) / 8) * np.cos(along)


@pytest.mark.parametrize(
    "kernels",
    [
        SOBEL,
        np.stack([gabor(5, a) for a in (0, 0.8, 1.6)], axis=-1)[:, :, None],
    ],
    ids=["sobel", "gabor"],
)
def test_fixed_kernels_are_saved_and_not_trained(kernels, tmp_path):
    size, c_out = kernels.shape[0], kernels.shape[-1]
    conv = nn.Conv2D(1, c_out, size, fixed=kernels)
    model = nn.Sequential(conv, nn.Flatten(), nn.Dense(4 * c_out, 2)).init(sl.Rng(0))
    assert list(model.parameters()) == [
        "layers.0.bias",
        "layers.2.weight",
        "layers.2.bias",
    ]
    np.testing.assert_allclose(kernels, model.state()["layers.0.weight"], rtol=1e-6)
    x = normal(3, size + 1, size + 1, 1).astype("float32")
    optimizer = sl.SGD(0.1).bind(model.parameters())
    loss = sl.CrossEntropy()(model(x, rng=sl.Rng(0)), np.array([0, 1, 1]))
    optimizer.step(sl.grad(loss, optimizer.params))
    np.testing.assert_allclose(kernels, conv.weight.numpy(), rtol=1e-6)

    sl.save(model, tmp_path / "model.safetensors")
    loaded = sl.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(model(x).numpy(), loaded(x).numpy())


def test_fixed_kernels_must_fit_and_must_come_from_somewhere():
    with pytest.raises(ShapeError, match=r"fixed kernels \(3, 3, 1, 2\), got \(3, 3\)"):
        nn.Conv2D(1, 2, 3, fixed=np.ones((3, 3)))
    with pytest.raises(ConfigError, match="load them from a file"):
        nn.Conv2D(1, 2, 3, fixed=True).init(sl.Rng(0))


def test_load_state_changes_nothing_on_a_mismatch():
    layer = nn.BatchNorm(2).init(sl.Rng(0))
    good = {k: a + 1 for k, a in layer.state().items()}
    before = {k: a.copy() for k, a in layer.state().items()}
    without = {k: a for k, a in good.items() if k != "bias"}
    for state, error, message in (
        (without, ConfigError, r"missing \['bias'\]"),
        (good | {"more": np.ones(1)}, ConfigError, r"unexpected \['more'\]"),
        (good | {"running_var": np.ones(3)}, ShapeError, r"\(2,\) for running_var"),
    ):
        with pytest.raises(error, match=message):
            layer.load_state(state)
        for name, array in layer.state().items():
            np.testing.assert_array_equal(before[name], array)
    layer.load_state(good)
    np.testing.assert_array_equal(good["running_var"], layer.running_var.numpy())
    good["running_var"][:] = 9  # is not shared
    assert layer.running_var.numpy().tolist() == [2, 2]


def test_keep_draws_only_what_has_no_value():
    inner = nn.Dense(2, 2).init(sl.Rng(5))
    kept = inner.weight.numpy().copy()
    model = nn.Sequential(inner, nn.Dense(2, 1)).init(sl.Rng(0), keep=True)
    np.testing.assert_array_equal(kept, model[0].weight.numpy())
    assert model[1].weight.numpy().any()


def test_sequential_counts_and_hands_out_its_layers():
    model = nn.Sequential(nn.Dense(2, 3), nn.ReLU())
    assert len(model) == 2
    assert repr(model[1]) == "ReLU()"
    assert repr(model) == "Sequential(\n  Dense(2, 3),\n  ReLU(),\n)"
    nested = nn.Sequential(nn.Sequential(nn.ReLU()))
    assert repr(nested).count("\n") == 4
