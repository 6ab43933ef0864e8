"""Parameters by path, all views of one vector, found once, laid out again at need."""

import copy
import pickle

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.core.parameter import Buffer, Parameter, Parameters
from sillar.errors import ConfigError, ShapeError
from sillar.nn.initializers import ones, zeros


class Bag(nn.Layer):
    """A layer of whatever it is given."""

    def __init__(self, **parts):
        vars(self).update(parts)

    def forward(self, x):
        return x


def weight(*shape):
    return Parameter(shape, ones)


@pytest.fixture
def net():
    inner = nn.Sequential(nn.Dense(2, 3), nn.Dense(3, 1))
    return Bag(first=nn.Dense(4, 2), inner=inner, last=weight(5)).init(sl.Rng(0))


def assert_one_vector(parameters):
    """Check that every parameter is a view at its place of the vector."""
    vector = parameters.vector
    assert vector.ndim == 1
    assert vector.size == parameters.size == sum(p.size for p in parameters.values())
    assert vector.flags.c_contiguous
    for path, place in parameters.slices.items():
        p = parameters[path]
        assert p.data.shape == p.shape
        if p.size:
            assert np.shares_memory(p.data, vector[place])
        np.testing.assert_array_equal(vector[place], p.data.ravel())


def test_parameters_are_views_of_one_vector(net):
    parameters = net.parameters()
    assert_one_vector(parameters)
    parameters.vector[:] = np.arange(parameters.size)
    np.testing.assert_array_equal(np.arange(8).reshape(4, 2), net.first.weight.numpy())
    net.last.data[:] = -1
    np.testing.assert_array_equal([-1] * 5, parameters.vector[-5:])


def test_paths_are_dotted_and_in_order_of_definition(net):
    assert list(net.parameters()) == [
        "first.weight",
        "first.bias",
        "inner.layers.0.weight",
        "inner.layers.0.bias",
        "inner.layers.1.weight",
        "inner.layers.1.bias",
        "last",
    ]


def test_lists_tuples_and_dicts_are_searched_to_any_depth():
    bag = Bag(
        rows=[weight(1), (weight(2), {"deep": [weight(3)]})],
        table={"b": weight(4), "a": nn.Dense(1, 2, bias=False)},
        other=[1, "x", None, np.ones(3), sl.Tensor([1.0])],
        running=Buffer((6,), zeros),
    )
    assert {path: p.shape for path, p in bag.parameters().items()} == {
        "rows.0": (1,),
        "rows.1.0": (2,),
        "rows.1.1.deep.0": (3,),
        "table.b": (4,),
        "table.a.weight": (1, 2),
    }
    assert list(bag.buffers()) == ["running"]


def test_tied_parameters_and_layers_are_found_once():
    shared, layer = weight(2, 2), nn.Dense(2, 2, bias=False)
    bag = Bag(a=shared, b=[shared], c=layer, d={"again": layer}, e=layer.weight)
    assert list(bag.parameters()) == ["a", "c.weight"]
    bag.init(sl.Rng(0))
    assert bag.parameters().size == 8
    assert bag.a is bag.b[0]


@pytest.mark.parametrize(
    "parts",
    [{"d": {1: weight(1), "1": weight(2)}}, {"a": {"b": weight(1)}, "a.b": weight(2)}],
)
def test_two_parameters_with_one_path_are_an_error(parts):
    with pytest.raises(ConfigError, match="two parameters have the path"):
        Bag(**parts).parameters()


def test_a_layer_that_knows_its_owner_is_no_endless_walk():
    inner = nn.Dense(1, 1)
    inner.owner = Bag(inner=inner, own=weight(2))
    assert list(inner.parameters()) == ["weight", "bias", "owner.own"]


def test_a_part_is_a_slice_of_its_owners_vector(net):
    whole, part = net.parameters(), net.inner.parameters()
    place = slice(whole.slices["inner.layers.0.weight"].start, -5)
    assert np.shares_memory(whole.vector, part.vector)
    np.testing.assert_array_equal(whole.vector[place], part.vector)
    part.vector[:] = 7
    np.testing.assert_array_equal(np.full(13, 7), whole.vector[place])
    assert_one_vector(whole)
    assert_one_vector(part)


def test_every_set_of_the_same_parameters_has_the_same_vector(net):
    first, second = net.parameters(), net.parameters()
    first.vector[:] = 3
    np.testing.assert_array_equal(first.vector, second.vector)
    assert np.shares_memory(first.vector, second.vector)


def test_a_part_laid_out_anew_comes_back_into_the_whole(net):
    whole = net.parameters()
    kept = net.first.weight.numpy().copy()
    net.inner.init(sl.Rng(1))
    drawn = net.inner[0].weight.numpy().copy()
    assert_one_vector(whole)
    assert_one_vector(net.inner.parameters())
    np.testing.assert_array_equal(kept, net.first.weight.numpy())
    np.testing.assert_array_equal(drawn, net.inner[0].weight.numpy())
    assert np.shares_memory(whole.vector, net.inner.parameters().vector)


def test_a_whole_laid_out_anew_takes_its_parts_along(net):
    part = net.inner.parameters()
    part.vector[:] = 1
    net.init(sl.Rng(2))
    assert_one_vector(part)
    assert np.shares_memory(part.vector, net.parameters().vector)


def test_a_part_joins_another_model_with_its_values(net):
    other = Bag(extra=weight(2), borrowed=net.inner)
    values = net.inner.parameters().vector.copy()
    other.init(sl.Rng(3), keep=True)
    np.testing.assert_array_equal(values, other.borrowed.parameters().vector)
    assert_one_vector(other.parameters())
    assert_one_vector(net.parameters())
    assert_one_vector(other.parameters())
    np.testing.assert_array_equal(values, net.inner.parameters().vector)


def test_a_replaced_array_comes_back_into_the_vector(net):
    whole = net.parameters()
    net.last.data = np.full(5, 2.0, "float32")
    np.testing.assert_array_equal([2] * 5, whole.vector[-5:])
    assert_one_vector(whole)


def test_a_deep_copy_of_a_model_is_independent(net):
    copied = copy.deepcopy(net)
    np.testing.assert_array_equal(net.parameters().vector, copied.parameters().vector)
    copied.parameters().vector[:] = 0
    assert net.last.numpy().tolist() == [1] * 5
    assert_one_vector(copied.parameters())


def test_values_depend_on_seed_and_path_alone():
    def drawn(**parts):
        return Bag(**parts).init(sl.Rng(0)).parameters()

    alone = drawn(a=nn.Dense(2, 3))["a.weight"].numpy()
    beside = drawn(z=nn.Dense(5, 5), a=nn.Dense(2, 3))["a.weight"].numpy()
    renamed = drawn(b=nn.Dense(2, 3))["b.weight"].numpy()
    np.testing.assert_array_equal(alone, beside)
    assert not np.array_equal(alone, renamed)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_type_is_the_one_asked_for(net, dtype):
    net.init(sl.Rng(0), dtype)
    assert net.parameters().vector.dtype == dtype
    assert {p.dtype.name for p in net.parameters().values()} == {dtype}


def test_empty_sets_and_empty_parameters_have_a_vector():
    assert Bag().init(sl.Rng(0)).parameters().vector.shape == (0,)
    bag = Bag(none=weight(0, 3), some=weight(2), last=weight(0)).init(sl.Rng(0))
    assert_one_vector(bag.parameters())
    assert bag.parameters().slices["last"] == slice(2, 2)


def test_pack_orders_gradients_by_path_or_position(net):
    parameters = net.parameters()
    gradients = {p: np.full(parameters[p].shape, i) for i, p in enumerate(parameters)}
    expected = np.concatenate([g.ravel() for g in gradients.values()])
    shuffled = dict(reversed(gradients.items()))
    tensors = [sl.Tensor(g.astype("float64")) for g in gradients.values()]
    for given in (gradients, shuffled, tuple(gradients.values()), tensors):
        packed = parameters.pack(given)
        assert packed.dtype == parameters.vector.dtype
        np.testing.assert_array_equal(expected, packed)
        assert not np.shares_memory(packed, parameters.vector)


def test_pack_of_gradients_that_do_not_fit_is_an_error(net):
    parameters = net.parameters()
    gradients = {path: np.zeros(p.shape) for path, p in parameters.items()}
    without = {k: g for k, g in gradients.items() if k != "last"}
    cases = {
        "one gradient for each": [without, {**gradients, "more": np.zeros(1)}],
        "expected 7 gradients, got 6": [list(without.values())],
        r"shape \(5,\) for the gradient of last, got \(4,\)": [
            {**gradients, "last": np.zeros(4)},
            [*without.values(), np.zeros(4)],
        ],
    }
    for message, given in cases.items():
        for gradients in given:
            with pytest.raises(ShapeError, match=message):
                parameters.pack(gradients)


def test_repr_lists_paths_and_shapes():
    parameters = nn.Dense(2, 3).parameters()
    assert repr(parameters) == "Parameters(weight (2, 3), bias (3,))"
    assert repr(parameters["weight"]) == "Parameter(no value yet)"


def test_shapes_are_known_before_there_are_values():
    p = weight(2, 3)
    assert (p.shape, p.size, p.ndim) == ((2, 3), 6, 2)
    assert (p.requires_grad, Buffer((1,), zeros).requires_grad) == (True, False)


@pytest.mark.parametrize("use", [lambda p: p * 2.0, lambda p: p.sum(), lambda p: p @ p])
def test_use_before_init_says_what_to_do(use):
    with pytest.raises(
        ConfigError, match=r"call model.init\(sillar.Rng\(seed\)\) first"
    ):
        use(weight(2, 2))
    layer = nn.Dense(2, 2)
    for early in (
        lambda: layer.parameters().vector,
        layer.state,
        lambda: layer(np.ones((1, 2))),
    ):
        with pytest.raises(ConfigError, match=r"model\.init"):
            early()


@pytest.mark.parametrize("shape", [(-1,), (1.5,), ("a",), (None, 2)])
def test_shapes_are_whole_numbers(shape):
    with pytest.raises(ConfigError, match="shape must be integers >= 0"):
        Parameter(shape, zeros)


def test_a_buffer_takes_values_of_its_shape_in_place():
    buffer = Bag(b=Buffer((2,), zeros)).init(sl.Rng(0)).b
    before = buffer.data
    buffer.assign(sl.Tensor([1.0, 2.0]))
    buffer.assign(np.array([3.0, 4.0]))
    assert before.tolist() == [3.0, 4.0]
    assert buffer.data is before
    with pytest.raises(ShapeError, match=r"expected shape \(2,\), got \(3,\)"):
        buffer.assign(np.ones(3))


def test_parameters_made_by_hand_are_laid_out_too():
    named = {"a": weight(2), "b": weight(1, 2)}
    vector = Parameters(named).lay_out("float64", lambda path, p: np.full(p.shape, 4))
    np.testing.assert_array_equal([4.0] * 4, vector, strict=True)
    assert_one_vector(Parameters(named))


def test_a_copied_or_pickled_model_is_one_vector_again():
    """The arrays of an unpickled model may lie in bytes that nobody else owns."""
    model = nn.Sequential(nn.Dense(3, 4), nn.BatchNorm(4)).init(sl.Rng(0))
    first = model.parameters().vector
    for made in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        parameters = made.parameters()
        assert np.array_equal(parameters.vector, first)
        parameters.vector[:] = 7
        assert (made[0].weight.data == 7).all()
        assert not (model[0].weight.data == 7).any()
