"""Model files: what comes back, what is refused, and that refusing costs nothing."""

import json
import resource
import tracemalloc

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.errors import ConfigError, FormatError, SillarError
from sillar.files import read_arrays, read_header, write_arrays
from sillar.nn.architecture import CONTAINERS, INITIALIZERS, LAYERS
from sillar.train.model_files import about
from tests.train.kit import bits, blobs, net, rich_net, train

# Every layer of the closed list, with all its arguments away from their defaults.
FEATURES = {
    "Dense": lambda: [nn.Dense(4, 5, bias=False, initializer=INITIALIZERS["zeros"])],
    "Dropout": lambda: [nn.Dropout(0.25)],
    "Flatten": lambda: [nn.Flatten()],
    "CodedDense": lambda: [nn.Rescaling(0.0), nn.CodedDense(4, 3, (4, 2))],
    "Rescaling": lambda: [nn.Rescaling(0.5, -2)],
    "BatchNorm": lambda: [nn.BatchNorm(4, momentum=0.2, eps=1e-3)],
    "LayerNorm": lambda: [nn.LayerNorm(4, eps=1e-3, affine=False)],
    "ELU": lambda: [nn.ELU(0.5)],
    "GELU": lambda: [nn.GELU(approximate=True)],
    "LeakyReLU": lambda: [nn.LeakyReLU(0.2)],
    "ReLU": lambda: [nn.ReLU()],
    "Sigmoid": lambda: [nn.Sigmoid()],
    "SiLU": lambda: [nn.SiLU()],
    "Softmax": lambda: [nn.Softmax(axis=0)],
    "Softplus": lambda: [nn.Softplus()],
    "Tanh": lambda: [nn.Tanh()],
}
KERNELS = np.random.default_rng(0).normal(size=(3, 3, 1, 2)).astype("f4")
IMAGES = {
    "Conv2D": lambda: [
        nn.Conv2D(1, 4, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(1, 2)),
        nn.Conv2D(4, 6, 1, groups=2, bias=False),
    ],
    "Conv2D, same": lambda: [nn.Conv2D(1, 2, 3, padding="same")],
    "Conv2D, fixed": lambda: [nn.Conv2D(1, 2, 3, fixed=KERNELS)],
    "MaxPool2D": lambda: [nn.MaxPool2D(3, stride=2, padding=1)],
    "AvgPool2D": lambda: [nn.AvgPool2D((2, 3))],
    "BatchNorm": lambda: [nn.Conv2D(1, 2, 3), nn.BatchNorm(2), nn.ReLU()],
    "GroupNorm": lambda: [nn.Conv2D(1, 4, 3), nn.GroupNorm(2, 4, eps=1e-3)],
    "Conv2DTranspose": lambda: [
        nn.Conv2DTranspose(1, 4, 3, stride=2, padding=(1, 0), output_padding=1),
        nn.Conv2DTranspose(4, 2, 2, dilation=(1, 2), groups=2, bias=False),
    ],
    "DepthwiseConv2D": lambda: [
        nn.DepthwiseConv2D(1, (3, 2), depth_multiplier=2, stride=(1, 2)),
        nn.DepthwiseConv2D(2, 2, padding="same", bias=False),
    ],
    "SeparableConv2D": lambda: [
        nn.SeparableConv2D(1, 4, 3, depth_multiplier=2, stride=2, padding=1),
        nn.SeparableConv2D(4, 2, 2, dilation=(1, 2), bias=False),
    ],
    "GlobalAvgPool2D": lambda: [nn.GlobalAvgPool2D()],
    "GlobalMaxPool2D": lambda: [nn.GlobalMaxPool2D()],
    "ConvNet": lambda: [nn.ConvNet(1, 3, widths=(2, 4), depth=(2, 1), stride=3)],
    "ResNet": lambda: [nn.ResNet(1, 3, widths=(2, 4), depth=2)],
    "ResidualBlock": lambda: [
        nn.ResidualBlock(1, 2, stride=2),
        nn.ResidualBlock(2, 2),
    ],
}
SERIES = {
    "Conv1D": lambda: [
        nn.Conv1D(4, 4, 3, stride=2, padding=2, groups=2, bias=False),
        nn.Conv1D(4, 3, 2, padding="causal", dilation=2),
    ],
    "MaxPool1D": lambda: [nn.MaxPool1D(3, stride=2, padding=1)],
    "AvgPool1D": lambda: [nn.AvgPool1D(3, stride=2, padding=1)],
    "GlobalAvgPool1D": lambda: [nn.GlobalAvgPool1D()],
    "GlobalMaxPool1D": lambda: [nn.GlobalMaxPool1D()],
    "RNN": lambda: [nn.RNN(4, 3, nonlinearity="relu", last=True)],
    "LSTM": lambda: [nn.LSTM(4, 3, layers=2, bidirectional=True, bias=False)],
    "GRU": lambda: [nn.GRU(4, 3, layers=2, dropout=0.5)],
    "Attention": lambda: [
        nn.Attention(4, 2, causal=True, dropout=0.5, bias=False, rotary=True)
    ],
    "TransformerBlock": lambda: [
        nn.TransformerBlock(
            4, 2, causal=True, hidden=3, dropout=0.5, bias=False, rotary=True
        )
    ],
    "LearnedPositions": lambda: [nn.LearnedPositions(9, 4)],
    "SinusoidalPositions": lambda: [nn.SinusoidalPositions(4)],
}
GPT = {"blocks": 2, "heads": 2, "context": 5, "dropout": 0.5, "bias": False}
INDICES = {
    "Embedding": lambda: [nn.Embedding(9, 4), nn.Flatten()],
    "GPT": lambda: [nn.GPT(9, 4, **GPT)],
    "GPT, untied": lambda: [nn.GPT(9, 4, **GPT, tied=False)],
}
RNG = np.random.default_rng(1)
CASES = {
    **{name: (make, RNG.normal(size=(6, 4))) for name, make in FEATURES.items()},
    **{
        f"{name} ": (make, RNG.normal(size=(2, 8, 9, 1)))
        for name, make in IMAGES.items()
    },
    **{name: (make, RNG.normal(size=(3, 6, 4))) for name, make in SERIES.items()},
    **{name: (make, RNG.integers(0, 9, (5, 3))) for name, make in INDICES.items()},
    "nothing": (list, RNG.normal(size=(2, 3))),
    "nested": (
        lambda: [nn.Sequential(nn.Dense(4, 3), nn.Sequential()), nn.Sequential()],
        RNG.normal(size=(6, 4)),
    ),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def random_values(model, dtype="float32"):
    """Give every parameter and buffer a value of its own."""
    model.init(sl.Rng(0))
    rng = np.random.default_rng(2)
    arrays = model.state().items()
    model.load_state({k: rng.uniform(0.1, 1, a.shape).astype(dtype) for k, a in arrays})
    return model


# Right


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_every_built_in_layer_comes_back_to_the_bit(name, dtype, path):
    make, x = CASES[name]
    model = random_values(nn.Sequential(*make()), dtype)
    sl.save(model, path)
    again = sl.load(path)
    assert repr(again) == repr(model)
    assert bits(again) == bits(model)
    assert list(again.state()) == list(model.state())
    assert {a.dtype for a in again.state().values()} <= {np.dtype(dtype)}
    with np.errstate(over="ignore", invalid="ignore"):  # float16 is soon at its end
        assert sl.predict(again, x).tobytes() == sl.predict(model, x).tobytes()


def test_no_built_in_layer_was_forgotten():
    layers = (layer for make, _ in CASES.values() for layer in make())
    assert {type(layer).__name__ for layer in layers} - {*CONTAINERS} == set(LAYERS)


@pytest.mark.parametrize("initializer", INITIALIZERS.values())
def test_every_initializer_is_remembered(initializer, path):
    model = nn.Dense(3, 4, initializer=initializer).init(sl.Rng(0))
    sl.save(model, path)
    again = sl.load(path)
    assert again.initializer is initializer
    assert bits(again.init(sl.Rng(1))) == bits(model.init(sl.Rng(1)))


def test_a_model_can_be_trained_on_after_loading(path):
    models = [rich_net() for _ in range(2)]
    train(models[0])
    sl.save(models[0], path)
    models[1] = sl.load(path)
    for model in models:
        train(model, seed=1)
    assert bits(models[0]) == bits(models[1])


def test_the_same_model_gives_the_same_file(path):
    sl.save(rich_net().init(sl.Rng(0)), path)
    first = path.read_bytes()
    sl.save(rich_net().init(sl.Rng(0)), path)
    assert path.read_bytes() == first
    sl.save(sl.load(path), path)
    assert path.read_bytes() == first


def test_notes_are_kept(path):
    notes = {"classes": ["benign", "malware"], "threshold": np.float32(0.5), "n": None}
    sl.save(net().init(sl.Rng(0)), path, **notes)
    assert about(read_header(path), path)["notes"] == {**notes, "threshold": 0.5}


def test_numpy_numbers_as_arguments_are_saved(path):
    sl.save(nn.Dropout(np.float32(0.5)), path)
    assert sl.load(path).p == 0.5


class Own(nn.Layer):
    """A layer outside the closed list, with a whole number to count with."""

    def __init__(self, n=4):
        self.scale = nn.Parameter((n,), nn.initializers.standard_normal)
        self.calls = nn.Buffer((1,), lambda rng, shape, dtype: np.zeros(shape, "i8"))

    def forward(self, x):
        if nn.is_training():
            self.calls.assign(self.calls.data + 1)
        return x * self.scale


def test_a_layer_of_your_own_needs_the_model(path):
    model = nn.Sequential(Own(), net())
    train(model)
    sl.save(model, path)
    with pytest.raises(FormatError, match=r"no architecture.*load\(path, model\)"):
        sl.load(path)
    for other in (nn.Sequential(Own(), net()), nn.Sequential(Own(), net())):
        other.init(sl.Rng(1))
        assert sl.load(path, other) is other
        assert bits(other) == bits(model)
        assert other.buffers()["layers.0.calls"].data == [16]


def test_layers_named_like_ours_are_not_ours(path):
    class Dense(nn.Dense):
        pass

    sl.save(Dense(2, 2).init(sl.Rng(0)), path)
    with pytest.raises(FormatError, match="no architecture"):
        sl.load(path)


def test_what_cannot_be_built_again_is_saved_without_its_architecture(path):
    pruned = nn.Sequential(nn.Dense(4, 8), nn.Dense(8, 2))
    pruned[0].weight = nn.Parameter((4, 6), nn.initializers.ones)
    pruned.init(sl.Rng(0))
    deep = nn.Dense(4, 4)
    for _ in range(40):
        deep = nn.Sequential(deep)
    for model in (pruned, deep.init(sl.Rng(0))):
        sl.save(model, path)
        with pytest.raises(FormatError, match="no architecture"):
            sl.load(path)
        before = bits(model)
        sl.load(path, model)
        assert bits(model) == before


def test_arrays_of_other_tools_fill_a_model(path):
    safetensors = pytest.importorskip("safetensors.numpy", reason="the other tool")
    arrays = random_values(net()).state()
    safetensors.save_file({k: np.array(a) for k, a in arrays.items()}, path)
    model = sl.load(path, net())
    assert bits(model) == bits(arrays)
    assert bits(safetensors.load_file(path)) == bits(arrays)


def test_saving_needs_values_and_plain_notes(path):
    with pytest.raises(ConfigError, match=r"call model\.init"):
        sl.save(net(), path)
    for notes in ({"f": print}, {"n": float("nan")}, {"n": {1, 2}}):
        with pytest.raises(ConfigError, match="save: expected plain data"):
            sl.save(net().init(sl.Rng(0)), path, **notes)
    assert not path.exists()


# The wrong model


def broken_arrays(**changes):
    arrays = dict(random_values(net()).state()) | changes
    return {name: array for name, array in arrays.items() if array is not None}


WRONG = {
    "missing": ({"layers.2.bias": None}, r"missing \['layers\.2\.bias'\]"),
    "unexpected": ({"layers.7.bias": np.ones(3, "f4")}, r"unexpected \['layers\.7"),
    "shape": ({"layers.0.bias": np.ones(9, "f4")}, r"layers\.0\.bias: \(9,\) for \(8,"),
    "integers": ({"layers.0.bias": np.ones(8, "i4")}, r"types .*int32"),
    "mixed": ({"layers.0.bias": np.ones(8, "f8")}, r"types .*float64"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_the_wrong_arrays_are_refused_and_the_model_is_as_before(
    changes, message, path
):
    write_arrays(path, broken_arrays(**changes))
    for model in (net().init(sl.Rng(0)), net()):
        before = {k: p.data for k, p in model.parameters().items()}
        with pytest.raises(FormatError, match=message) as caught:
            sl.load(path, model)
        assert str(path) in str(caught.value)
        after = {k: p.data for k, p in model.parameters().items()}
        assert all(after[k] is before[k] for k in before)


def test_a_read_that_fails_half_way_leaves_the_model(path, monkeypatch):
    sl.save(random_values(rich_net()), path)
    model = rich_net().init(sl.Rng(0))
    before, vector = bits(model), model.parameters().vector

    def fail(path, destinations):
        next(iter(destinations.values()))[...] = 7
        raise FormatError("the file changed")

    monkeypatch.setattr("sillar.train.model_files.read_into", fail)
    with pytest.raises(FormatError, match="changed"):
        sl.load(path, model)
    assert bits(model) == before
    assert model.parameters().vector.base is vector.base


def test_types_of_buffers_are_checked_in_models_of_ours(path):
    arrays = dict(random_values(rich_net()).state())
    arrays["layers.1.running_var"] = np.ones(8, "i8")
    sl.save(rich_net().init(sl.Rng(0)), path)
    _, metadata = read_arrays(path)
    write_arrays(path, arrays, metadata)
    with pytest.raises(FormatError, match=r"kinds of buffers \['i'\]"):
        sl.load(path)


# Hostile headers


def architecture_file(path, architecture, arrays=None, **changes):
    """Write a small file that claims to be of any architecture."""
    text = architecture
    if not isinstance(architecture, str):
        found = {"version": 1, "architecture": architecture, "notes": {}} | changes
        text = json.dumps(found)
    write_arrays(path, arrays or {}, {"sillar": text})
    return path


def nested(depth):
    return '{"type": "Sequential", "layers": [' * depth + "]}" * depth


def elu(alpha):
    return f'{{"version": 1, "architecture": {{"type": "ELU", "alpha": {alpha}}}}}'


def dense(**changes):
    return {"type": "Dense", "n_in": 2, "n_out": 3, **changes}


HUGE = 10**4000
BOMBS = {
    "huge": dense(n_in=10**9, n_out=10**9),
    "beyond 64 bits": dense(n_in=2**40, n_out=2**40),
    "thousands of digits": dense(n_in=HUGE, n_out=HUGE),
    "huge embedding": {"type": "Embedding", "n": 10**12, "width": 10**6},
    "huge convolution": {"type": "Conv2D", "c_in": 10**9, "c_out": 1, "kernel": 10**9},
    "huge kernels": {
        "type": "Conv2D",
        "c_in": HUGE,
        "c_out": HUGE,
        "kernel": HUGE,
        "dilation": HUGE,
        "padding": "same",
    },
    "kernels to come": {
        "type": "Conv2D",
        "c_in": 1,
        "c_out": 1,
        "kernel": 99999,
        "fixed": True,
    },
    "huge norm": {"type": "BatchNorm", "n": 10**15},
    "negative": dense(n_in=-1),
    "zero": dense(n_in=0),
    "no integer": dense(n_in=2.0),
    "text for a number": dense(n_in="2"),
    "a flag for a number": dense(n_in=True),
    "a list for a number": dense(n_in=[2]),
    "a table for a number": dense(n_in={"type": "Dense"}),
    "a number for a flag": dense(bias=1),
    "a list for a flag": dense(bias=[]),
    "null for a number": dense(n_in=None),
    "an unknown argument": dense(__class__="x"),
    "a missing argument": {"type": "Dense", "n_in": 2},
    "self": dense(self=1),
    "a type in the list of another": {"type": "Adam"},
    "a path for a type": {"type": "os.system"},
    "a list for a type": {"type": ["Dense"]},
    "no type": {},
    "a list": [dense()],
    "text": "Dense",
    "a number": 3,
    "true": True,
    "an unknown initializer": dense(initializer="eval"),
    "a number for an initializer": dense(initializer=3),
    "layers that are no list": {"type": "Sequential", "layers": {"0": dense()}},
    "a layer that is null": {"type": "Sequential", "layers": [None]},
    "more than layers": {"type": "Sequential", "layers": [], "extra": 1},
    "text for a slope": {"type": "LeakyReLU", "slope": "0.1"},
    "a list for a slope": {"type": "LeakyReLU", "slope": [1, 2]},
    "text for an axis": {"type": "Softmax", "axis": "0"},
    "half an axis": {"type": "Softmax", "axis": 0.5},
    "no probability": {"type": "Dropout", "p": 1.5},
    "huge probability": {"type": "Dropout", "p": HUGE},
    "negative padding": {"type": "MaxPool2D", "size": 2, "padding": -1},
    "a word for padding": {"type": "MaxPool2D", "size": 2, "padding": "same"},
    "three sizes": {"type": "MaxPool2D", "size": [2, 2, 2]},
    "no groups": {"type": "Conv2D", "c_in": 1, "c_out": 1, "kernel": 1, "groups": 0},
}
TEXTS = {
    "nothing": "",
    "no JSON": "{",
    "no table": "[1]",
    "only null": "null",
    "no version": "{}",
    "another version": '{"version": 2}',
    "a version like ours": '{"version": "1"}',
    "deep": '{"version": 1, "architecture": ' + nested(40) + "}",
    "deeper": '{"version": 1, "architecture": ' + nested(10_000) + "}",
    "a pit": "[" * 500_000,
    **{
        f"{name} {depth} deep": text.replace("?", "[" * depth + "]" * depth)
        for depth in (500, 900, 960, 990)
        for name, text in {
            "an architecture": '{"version": 1, "architecture": ?}',
            "a version": '{"version": ?}',
            "a type": '{"version": 1, "architecture": {"type": ?}}',
            "a size": elu("?"),
            "a layer": '{"version": 1, "architecture": {"type": "Sequential",'
            ' "layers": [?]}}',
            "an initializer": '{"version": 1, "architecture": {"type": "Dense",'
            ' "n_in": 2, "n_out": 3, "initializer": ?}}',
            "an unknown argument": '{"version": 1, "architecture": {"type": "ReLU",'
            ' "x": ?}}',
        }.items()
    },
    "a pit of tables": '{"a":' * 100_000,
    "NaN": elu("NaN"),
    "infinity": elu("-Infinity"),
    "hidden infinity": '{"version": 1, "notes": {"n": 1e999},'
    ' "architecture": {"type": "ReLU"}}',
    "10,000 digits": elu("9" * 10_000),
    "4,000 digits": elu("9" * 4000),
    "lone surrogate": elu('"\\ud800"'),
    "architecture missing": '{"version": 1}',
}


@pytest.mark.parametrize(
    "content", [*BOMBS.values(), *TEXTS.values()], ids=[*BOMBS, *TEXTS]
)
def test_a_hostile_header_is_refused_before_anything_is_allocated(content, path):
    architecture_file(path, content)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError) as caught:
            sl.load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert peak < 2**20 + 60 * path.stat().st_size


def test_a_description_of_many_layers_takes_memory_by_its_length_only(path):
    many = ",".join(['{"type":"BatchNorm","n":1}'] * 500)
    layers = f'{{"type":"Sequential","layers":[{many}]}}'
    architecture_file(path, f'{{"version":1,"architecture":{layers}}}')
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="missing"):
            sl.load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20 + 80 * path.stat().st_size


def test_real_memory_is_not_taken_either(path):
    """Not every allocation is Python's own; the system counts them all."""
    architecture_file(path, BOMBS["huge"], {"weight": np.ones((2, 3), "f4")})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FormatError):
        sl.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**14  # KiB


def test_nothing_but_layers_is_called(path):
    names = ["object", "Layer", "_Pool", "Optimizer", "eval", "__import__", "Parameter"]
    for name in names:
        architecture_file(path, {"type": name})
        with pytest.raises(FormatError, match="unknown type"):
            sl.load(path)


@pytest.mark.parametrize("name", BOMBS)
def test_a_model_given_by_the_caller_needs_no_architecture(name, path):
    """A hostile description is not even looked at."""
    model = random_values(net())
    architecture_file(path, BOMBS[name], dict(model.state()))
    assert bits(sl.load(path, net())) == bits(model)


def test_errors_are_ours(path):
    missing = path.with_name("missing.safetensors")
    for wrong in (missing, path.parent):
        with pytest.raises(SillarError, match=wrong.name):
            sl.load(wrong)
    train(net(), blobs(8))
