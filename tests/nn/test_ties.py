"""One parameter in several places: found, counted, saved and described once."""

import copy
import json

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.errors import ConfigError
from sillar.nn.architecture import build, describe
from sillar.testing.cases.layers import normal


def tied(n=4):
    """Return three layers of which the last has the first one's weight."""
    model = nn.Sequential(nn.Dense(n, n), nn.Tanh(), nn.Dense(n, n))
    model[2].weight = model[0].weight
    return model


def shared():
    """Return one layer in two places; its running statistics are shared as well."""
    layer = nn.Sequential(nn.Dense(4, 4), nn.BatchNorm(4))
    return nn.Sequential(layer, nn.Tanh(), layer)


class Words(nn.Layer):
    """An embedding whose matrix is the output projection as well."""

    def __init__(self):
        self.words = nn.Embedding(6, 3)
        self.inner = nn.Dense(3, 3)

    def forward(self, x):
        return sl.tanh(self.inner(self.words(x))) @ self.words.weight.T


TIES = {
    "weight": (
        tied,
        {"layers.2.weight": "layers.0.weight"},
    ),
    "layer": (
        shared,
        {
            f"layers.2.layers.{name}": f"layers.0.layers.{name}"
            for name in (
                *("0.weight", "0.bias", "1.weight", "1.bias"),
                *("1.running_mean", "1.running_var"),
            )
        },
    ),
}
models = pytest.mark.parametrize(("make", "ties"), TIES.values(), ids=TIES)


def test_a_tied_weight_is_found_counted_and_saved_once():
    model = tied().init(sl.Rng(0))
    names = ["layers.0.weight", "layers.0.bias", "layers.2.bias"]
    assert list(model.parameters()) == names
    assert list(model.state()) == names
    assert model.parameters().size == model.parameters().vector.size == 16 + 4 + 4
    assert model[2].weight is model[0].weight


def test_the_gradient_of_a_tied_weight_is_the_sum_over_its_places():
    model = tied().init(sl.Rng(0), "float64")
    apart = build({k: v for k, v in describe(model).items() if k != "ties"})
    apart.init(sl.Rng(1), "float64")
    state = model.state()
    apart.load_state(state | {"layers.2.weight": state["layers.0.weight"]})
    x = normal(5, 4)
    np.testing.assert_array_equal(model(x).numpy(), apart(x).numpy())
    ours = sl.grad((model(x) ** 2).sum(), model.parameters())
    theirs = sl.grad((apart(x) ** 2).sum(), apart.parameters())
    expected = theirs["layers.0.weight"] + theirs["layers.2.weight"]
    np.testing.assert_allclose(expected.numpy(), ours["layers.0.weight"].numpy())
    for name in ("layers.0.bias", "layers.2.bias"):
        np.testing.assert_allclose(theirs[name].numpy(), ours[name].numpy())


def test_derivatives_of_a_tied_matrix_match_differences():
    sl.testing.check_layer(Words(), np.array([[0, 2], [2, 5], [1, 1]]))
    sl.testing.check_layer(tied(), normal(3, 4))


def test_copies_stay_tied():
    model = copy.deepcopy(tied().init(sl.Rng(0)))
    assert model[2].weight is model[0].weight
    assert "layers.2.weight" not in model.state()


@models
def test_a_description_names_the_ties(make, ties):
    model = make().init(sl.Rng(0))
    described = describe(model)
    assert described["ties"] == ties
    text = json.dumps(described)
    built = build(json.loads(text))
    assert json.dumps(describe(built)) == text
    assert list(built.parameters()) == list(model.parameters())
    built.load_state(model.state())
    x = normal(5, 4).astype("float32")
    np.testing.assert_array_equal(model(x).numpy(), built(x).numpy())


def test_what_is_not_tied_has_no_ties():
    assert "ties" not in describe(nn.Sequential(nn.Dense(2, 2), nn.Dense(2, 2)))
    relu = nn.ReLU()
    assert "ties" not in describe(nn.Sequential(relu, nn.Dense(2, 2), relu))


@pytest.mark.parametrize(
    ("ties", "message"),
    [
        ({"layers.2.weight": "layers.1.weight"}, "must lead from paths of parameters"),
        ({"layers.3.weight": "layers.0.weight"}, "must lead from paths of parameters"),
        ({"layers.2.__class__": "layers.0.weight"}, "must lead from paths"),
        ({"layers.2.weight": ["layers.0.weight"]}, "must lead from paths"),
        (["layers.2.weight"], "must lead from paths"),
        (None, "must lead from paths"),
        (
            {"layers.2.weight": "layers.0.bias"},
            r"\(4, 4\) cannot be the same as .*bias",
        ),
        ({"layers.0.weight": "layers.2.weight"}, "from a later place to the first"),
        ({"layers.2.weight": "layers.2.weight"}, "from a later place to the first"),
        (
            {
                "layers.2.weight": "layers.0.weight",
                "layers.0.weight": "layers.0.weight",
            },
            "from a later place to the first",
        ),
    ],
)
def test_wrong_ties_are_refused(ties, message):
    description = describe(nn.Sequential(nn.Dense(4, 4), nn.Tanh(), nn.Dense(4, 4)))
    with pytest.raises(ConfigError, match=message):
        build(description | {"ties": ties})


def test_ties_stand_at_the_root_alone():
    inner = describe(tied())
    with pytest.raises(ConfigError, match="Sequential takes"):
        build({"type": "Sequential", "layers": [inner]})


def test_a_parameter_and_a_buffer_cannot_be_one():
    model = nn.Sequential(nn.BatchNorm(4), nn.BatchNorm(4))
    ties = {"layers.1.weight": "layers.0.running_var"}
    with pytest.raises(ConfigError, match="tie parameters of one shape"):
        build(describe(model) | {"ties": ties})


def test_states_of_tied_and_untied_models_are_not_mixed_up():
    one, two = tied(), nn.Sequential(nn.Dense(4, 4), nn.Tanh(), nn.Dense(4, 4))
    one.init(sl.Rng(0))
    two.init(sl.Rng(0))
    with pytest.raises(ConfigError, match=r"missing \['layers.2.weight'\]"):
        two.load_state(one.state())
    with pytest.raises(ConfigError, match=r"unexpected \['layers.2.weight'\]"):
        one.load_state(two.state())
