"""Models as plain data and back; hostile data builds nothing."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import sillar as sl
from sillar import nn
from sillar.describe import signature
from sillar.errors import ConfigError, FormatError, SillarError
from sillar.files import write_arrays
from sillar.nn.architecture import (
    CONTAINERS,
    DEPTH,
    INITIALIZERS,
    LAYERS,
    build,
    describe,
)
from sillar.testing.cases.layers import CASES, normal


@pytest.mark.parametrize(("layer", "inputs"), CASES.values(), ids=CASES)
def test_every_layer_comes_back_from_its_description(layer, inputs):
    text = json.dumps(describe(layer))
    built = build(json.loads(text))
    assert (type(built), repr(built)) == (type(layer), repr(layer))
    assert json.dumps(describe(built)) == text

    layer.init(sl.Rng(0))
    for declared in (sl.nn.Layer.parameters, sl.nn.Layer.buffers):
        assert {k: p.shape for k, p in declared(layer).items()} == {
            k: p.shape for k, p in declared(built).items()
        }
    built.load_state(layer.state())
    for rng in (None, sl.Rng(1)):
        expected, got = layer(*inputs, rng=rng), built(*inputs, rng=rng)
        np.testing.assert_array_equal(expected.numpy(), got.numpy(), strict=True)


def test_a_description_is_what_was_given():
    assert describe(nn.Conv2D(1, 2, (3, 2), padding="same", bias=False)) == {
        "type": "Conv2D",
        "c_in": 1,
        "c_out": 2,
        "kernel": [3, 2],
        "stride": 1,
        "padding": "same",
        "dilation": 1,
        "groups": 1,
        "bias": False,
        "initializer": "he_normal",
        "fixed": False,
    }
    assert describe(nn.Sequential(nn.ReLU())) == {
        "type": "Sequential",
        "layers": [{"type": "ReLU"}],
    }


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_come_back_by_name(name):
    layer = nn.Dense(2, 3, initializer=INITIALIZERS[name])
    built = build(describe(layer))
    assert built.initializer is layer.initializer
    np.testing.assert_array_equal(
        layer.init(sl.Rng(0)).weight.numpy(), built.init(sl.Rng(0)).weight.numpy()
    )


def test_what_is_not_of_the_list_has_no_description():
    class Dense(nn.Layer):
        def forward(self, x):
            return x

    class Deeper(nn.Sequential):
        pass

    own = nn.Dense(2, 2, initializer=lambda rng, shape, dtype: np.zeros(shape, dtype))
    for layer in (Dense(), Deeper(nn.ReLU()), own):
        assert describe(layer) is None
        assert describe(nn.Sequential(nn.ReLU(), layer)) is None


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (None, "expected a table with a type"),
        ([], "expected a table with a type"),
        ({}, "expected a table with a type"),
        ({"type": 3}, "expected a table with a type"),
        ({"type": "System"}, "unknown type 'System'; known are Attention,"),
        ({"type": "Layer"}, "unknown type"),
        ({"type": "__class__"}, "unknown type"),
        ({"type": "Dense", "n_in": 2}, r"missing \['n_out'\]"),
        ({"type": "ReLU", "init": 1}, r"unknown \['init'\]"),
        ({"type": "Dense", "n_in": 2, "n_out": "3"}, "n_out must be an integer"),
        ({"type": "Dense", "n_in": 2, "n_out": 0}, "n_out must be an integer"),
        ({"type": "Dense", "n_in": {}, "n_out": 0}, "n_in cannot be {}"),
        ({"type": "Dense", "n_in": 1, "n_out": 1, "bias": 1}, "true or false, got 1"),
        (
            {"type": "Dense", "n_in": 1, "n_out": 1, "initializer": "eval"},
            "unknown initializer 'eval'",
        ),
        (
            {"type": "Conv2D", "c_in": 1, "c_out": 1, "kernel": [1, 2, 3]},
            "rows, columns",
        ),
        ({"type": "Conv2D", "c_in": 1, "c_out": 1, "kernel": [[1]]}, "cannot be"),
        ({"type": "Dropout", "p": float("nan")}, r"p must be in \[0, 1\), got nan"),
        ({"type": "Dropout", "p": "x"}, "architecture"),
        ({"type": "LeakyReLU", "slope": "x"}, "slope must be a finite number"),
        ({"type": "ELU", "alpha": None}, "alpha must be a finite number"),
        ({"type": "Softmax", "axis": 0.5}, "axis must be an integer"),
        ({"type": "BatchNorm", "n": 2, "eps": "small"}, "architecture"),
        ({"type": "Sequential"}, "a list of tables"),
        ({"type": "Sequential", "layers": {}}, "a list of tables"),
        ({"type": "Sequential", "layers": [1]}, r"architecture\.0: expected a table"),
        ({"type": "Sequential", "layers": [], "name": ""}, "a list of tables"),
    ],
)
def test_wrong_descriptions_say_what_is_wrong(description, message):
    with pytest.raises(ConfigError, match=message):
        build(description)


def test_containers_in_one_another_have_a_limit():
    description = {"type": "ReLU"}
    for _ in range(DEPTH):
        description = {"type": "Sequential", "layers": [description]}
    build(description)
    for _ in range(3000):
        description = {"type": "Sequential", "layers": [description]}
    with pytest.raises(ConfigError, match="more than 32 containers"):
        build(description)


MANY = 10**9
GPT = {"vocabulary": 2, "width": 2, "heads": 1, "context": 2}


@pytest.mark.parametrize(
    "description",
    [
        {"type": "ResNet", "c_in": 1, "n_out": 2, "depth": MANY},
        {"type": "ResNet", "c_in": 1, "n_out": 2, "widths": [1] * 200, "depth": [99]},
        {"type": "LSTM", "n_in": 1, "n_hidden": 2, "layers": MANY},
        {"type": "GPT", **GPT, "blocks": MANY},
        {
            "type": "Sequential",
            "layers": [{"type": "ConvNet", "c_in": 1, "n_out": 2, "depth": 999}] * 99,
        },
    ],
    ids=lambda description: description["type"],
)
def test_a_few_words_cannot_ask_for_a_billion_parts(description):
    with pytest.raises(ConfigError, match="more than 10000 parts"):
        build(description)


def test_wide_networks_are_not_many_parts():
    wide = nn.ResNet(3, 10, widths=(8000, 12000), depth=(2, 8))
    assert repr(build(describe(wide))) == repr(wide)


@pytest.mark.parametrize(
    "wrap", [lambda x: [x], lambda x: {"type": x}, lambda x: {"": x}]
)
def test_deep_arguments_are_refused_without_recursion(wrap):
    deep = 1
    for _ in range(100_000):
        deep = wrap(deep)
    for description in (
        deep,
        {"type": "ReLU", "x": deep},
        {"type": "ELU", "alpha": deep},
    ):
        with pytest.raises(ConfigError):
            build(description)


values = some.recursive(
    some.none()
    | some.booleans()
    | some.integers()
    | some.integers(-3, 9)
    | some.floats()
    | some.sampled_from(["same", "valid", "", "zeros", "he_normal", "__import__"])
    | some.text(max_size=5),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.dictionaries(some.text(), inner, max_size=3)
    ),
    max_leaves=6,
)
kinds = some.sampled_from([*LAYERS, *CONTAINERS, "Layer", "type", ""])


def arguments_of(kind):
    names = list(signature(LAYERS[kind])) if kind in LAYERS else ["layers"]
    known = some.fixed_dictionaries({}, optional=dict.fromkeys(names, values))
    return some.builds(
        lambda given, more: {"type": kind, **given, **more},
        known,
        some.dictionaries(some.text(max_size=5), values, max_size=1),
    )


tables = kinds.flatmap(arguments_of) | values
hostile = tables | some.lists(tables, max_size=3).map(
    lambda layers: {"type": "Sequential", "layers": layers}
)


@settings(max_examples=300, deadline=None)
@given(hostile)
def test_hostile_descriptions_build_a_layer_or_raise_a_config_error(description):
    try:
        layer = build(description)
    except ConfigError:
        return
    assert isinstance(layer, nn.Layer)
    assert build(json.loads(json.dumps(describe(layer)))) is not layer
    if layer.parameters().size < 10_000 and "fixed" not in repr(layer):
        use(layer)


def use(layer):
    """Check that what was built works, or says why not in an error of ours."""
    for x in (normal(2, 3), normal(1, 4, 4, 2), np.array([[0, 1]])):
        try:
            layer.init(sl.Rng(0), "float64")(x)
        except SillarError:
            continue


def test_a_file_whose_header_is_hostile_is_refused(tmp_path):
    path = tmp_path / "hostile.safetensors"
    deep = "[" * 900 + "]" * 900
    for architecture in (
        '{"type": "System"}',
        f'{{"type": "ELU", "alpha": {deep}}}',
        f'{{"type": "Sequential", "layers": {deep}}}',
        '{"type": "Dense", "n_in": 1e999, "n_out": 1}',
    ):
        text = f'{{"version": 1, "architecture": {architecture}}}'
        write_arrays(path, {}, {"sillar": text})
        with pytest.raises(FormatError, match="hostile"):
            sl.load(path)
