"""What `grad` and `backward` promise, whatever the primitives in between."""

import threading

import numpy as np
import pytest

import sillar as sl
from sillar.errors import DtypeError, GradientError, ShapeError


def variable(*values, dtype="float64"):
    return sl.Tensor(np.array(values, dtype), requires_grad=True)


@pytest.fixture
def x():
    return variable(1.0, 2.0, 3.0)


def assert_equal(expected, tensor):
    assert type(tensor) is sl.Tensor
    np.testing.assert_array_equal(np.asarray(expected, tensor.dtype), tensor.numpy())


def test_one_input_gives_one_gradient(x):
    assert_equal([2, 4, 6], sl.grad((x * x).sum(), x))


def test_gradients_come_in_the_structure_of_the_inputs(x):
    y = variable(4.0, 5.0, 6.0)
    loss = (x * y).sum()
    as_list, as_tuple = sl.grad(loss, [x, y]), sl.grad(loss, (x, y))
    as_dict = sl.grad(loss, {"y": y, "x": x})
    assert [type(g) for g in (as_list, as_tuple, as_dict)] == [list, tuple, dict]
    assert list(as_dict) == ["y", "x"]
    for g in (as_list[0], as_tuple[0], as_dict["x"]):
        assert_equal([4, 5, 6], g)
    for g in (as_list[1], as_tuple[1], as_dict["y"]):
        assert_equal([1, 2, 3], g)


@pytest.mark.parametrize("empty", [[], (), {}])
def test_no_inputs_have_no_gradients(x, empty):
    assert sl.grad(x.sum(), empty) == empty


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_unreached_input_has_a_gradient_of_zeros(x, dtype):
    other = sl.Tensor(np.ones((2, 2), dtype), requires_grad=True)
    g = sl.grad(x.sum(), other)
    assert_equal(np.zeros((2, 2)), g)
    assert g.dtype == dtype


def test_an_input_reached_only_through_constants_has_zeros(x):
    assert_equal(np.zeros(3), sl.grad((x > 2).astype("float64").sum(), x))
    assert_equal(np.zeros(3), sl.grad(sl.sign(x).sum(), x))
    assert_equal(np.zeros(3), sl.grad((x.detach() * 2.0).sum(), x))


def test_an_intermediate_tensor_can_be_an_input(x):
    middle = x * 2.0
    loss = (middle * middle).sum()
    g_middle, g_x = sl.grad(loss, [middle, x])
    assert_equal([4, 8, 12], g_middle)
    assert_equal([8, 16, 24], g_x)


def test_the_output_itself_can_be_an_input(x):
    loss = x.sum()
    assert_equal(1, sl.grad(loss, loss))
    assert_equal([1, 2, 3], sl.grad(x, x, cotangents=variable(1.0, 2.0, 3.0)))


def test_the_same_input_twice_has_its_gradient_twice(x):
    for g in sl.grad((x * x).sum(), [x, x]):
        assert_equal([2, 4, 6], g)


def test_the_same_tensor_twice_in_one_call_counts_twice(x):
    assert_equal([2, 4, 6], sl.grad((x * x).sum(), x))
    assert_equal([2, 2, 2], sl.grad((x + x).sum(), x))
    joined = sl.concat(x, x * 2.0, x)
    assert_equal([4, 4, 4], sl.grad(joined.sum(), x))


def test_paths_that_meet_again_add_up(x):
    a = x * 2.0
    b, c = a * a, a * 3.0
    assert_equal(8 * x.numpy() + 6, sl.grad((b + c).sum(), x))


def test_cotangents_weigh_the_outputs(x):
    y = x * x
    assert_equal([2, 0, 18], sl.grad(y, x, cotangents=sl.Tensor([1.0, 0.0, 3.0])))


def test_several_outputs_add_up(x):
    assert_equal([3, 5, 7], sl.grad([(x * x).sum(), x.sum()], x))
    outputs = (x * x, x.sum())
    cotangents = (sl.Tensor([1.0, 0.0, 0.0]), sl.Tensor(10.0))
    assert_equal([12, 10, 10], sl.grad(outputs, x, cotangents=cotangents))
    same = x.sum()
    assert_equal([2, 2, 2], sl.grad([same, same], x))


def test_cotangents_are_cast_to_the_outputs_type():
    x = variable(1.0, 2.0, dtype="float32")
    wide = sl.Tensor(np.ones(2, "float64"))
    for y in (x, x * 2.0):
        assert sl.grad(y, x, cotangents=wide).dtype == "float32"


def test_a_single_element_of_any_shape_is_a_scalar_output(x):
    assert_equal([1, 1, 1], sl.grad(x.sum(axis=0, keepdims=True), x))


def test_gradients_are_not_tracked_unless_asked_for(x):
    loss = (x * x * x).sum()
    assert not sl.grad(loss, x).requires_grad
    first = sl.grad(loss, x, create_graph=True)
    second = sl.grad(first.sum(), x, create_graph=True)
    third = sl.grad(second.sum(), x)
    assert_equal([3, 12, 27], first)
    assert_equal([6, 12, 18], second)
    assert_equal([6, 6, 6], third)


def test_a_graph_can_be_used_again(x):
    loss = (x * x).sum()
    for _ in range(2):
        assert_equal([2, 4, 6], sl.grad(loss, x))


def test_gradients_share_no_memory_with_inputs_or_cotangents(x):
    cotangent = sl.Tensor(np.ones(3))
    kept = x.numpy().copy()
    g = sl.grad(x + 0.0, x, cotangents=cotangent)
    sl.grad((x + x).sum(), x)
    np.testing.assert_array_equal(np.ones(3), cotangent.numpy())
    np.testing.assert_array_equal(kept, x.numpy())
    assert not np.shares_memory(g.numpy(), x.numpy())


def test_no_grad_leaves_nothing_behind(x):
    with sl.no_grad():
        y = x * 2.0
        with sl.enable_grad():
            z = x * 3.0
        w = x * 4.0
    assert [t.requires_grad for t in (y, z, w, x * 5.0)] == [False, True, False, True]
    assert y.node is None
    assert_equal(np.zeros(3), sl.grad(y.sum(), x))


def test_recording_resumes_after_an_error(x):
    with pytest.raises(ZeroDivisionError), sl.no_grad():
        raise ZeroDivisionError
    assert (x * 2.0).requires_grad


def test_create_graph_records_inside_no_grad(x):
    loss = (x * x).sum()
    with sl.no_grad():
        g = sl.grad(loss, x, create_graph=True)
    assert_equal([2, 2, 2], sl.grad(g.sum(), x))


def test_recording_is_a_threads_own(x):
    seen = {}
    entered, checked = threading.Event(), threading.Event()

    def quiet():
        with sl.no_grad():
            entered.set()
            checked.wait(5)
            seen["quiet"] = (x * 2.0).requires_grad

    thread = threading.Thread(target=quiet)
    thread.start()
    entered.wait(5)
    seen["main"] = (x * 2.0).requires_grad
    checked.set()
    thread.join()
    assert seen == {"main": True, "quiet": False}


def test_threads_differentiate_side_by_side():
    results = {}

    def work(k):
        for _ in range(50):
            x = variable(float(k), 1.0)
            y = x
            for _ in range(20):
                y = y * 1.5 + x
            results.setdefault(k, set()).add(sl.grad(y.sum(), x).numpy()[0])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {k: len(found) for k, found in results.items()} == dict.fromkeys(range(4), 1)
    assert len(set.union(*results.values())) == 1


def test_backward_sets_grad_of_every_variable_and_replaces_it(x):
    y, unused = variable(4.0, 5.0, 6.0), variable(1.0)
    middle = x * y
    for _ in range(2):
        middle.sum().backward()
        assert_equal([4, 5, 6], x.grad)
        assert_equal([1, 2, 3], y.grad)
    assert (unused.grad, middle.grad) == (None, None)


@pytest.mark.parametrize("structure", [lambda x: x, lambda x: [x], lambda x: {"w": x}])
def test_untracked_inputs_are_an_error(x, structure):
    plain = sl.Tensor([1.0])
    with pytest.raises(GradientError, match=r"input 0, shape \(1,\), was not tracked"):
        sl.grad((x * plain).sum(), structure(plain))


def test_outputs_of_many_elements_need_cotangents(x):
    with pytest.raises(GradientError, match=r"scalar output, got shape \(3,\)"):
        sl.grad(x * 2.0, x)
    with pytest.raises(GradientError, match="scalar output"):
        (x * 2.0).backward()


def test_backward_of_a_constant_is_an_error(x):
    with sl.no_grad():
        quiet = x.sum()
    for loss in (quiet, sl.Tensor(1.0)):
        with pytest.raises(GradientError, match="not computed from any variable"):
            loss.backward()


@pytest.mark.parametrize("cotangents", [sl.Tensor([1.0]), [sl.Tensor(1.0)] * 2])
def test_cotangents_of_other_shapes_are_an_error(x, cotangents):
    with pytest.raises(ShapeError, match="expected cotangents of shapes"):
        sl.grad(x * 2.0, x, cotangents=cotangents)


@pytest.mark.parametrize("inputs", [3.0, "x", None, np.ones(3), [np.ones(3)], [[]]])
def test_other_things_than_tensors_are_an_error(x, inputs):
    with pytest.raises(GradientError, match=r"expected .*tensors? .*inputs"):
        sl.grad(x.sum(), inputs)
    with pytest.raises(GradientError, match=r"expected .*tensors? .*outputs"):
        sl.grad(inputs, x)


def test_whole_numbers_cannot_be_variables():
    with pytest.raises(DtypeError, match="only floating-point tensors have gradients"):
        sl.Tensor([1, 2], requires_grad=True)
