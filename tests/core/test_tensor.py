"""The tensor: what it is made of, what it converts to, and what it refuses."""

import copy

import numpy as np
import pytest

import sillar as sl
from sillar.core import ops
from sillar.errors import BackendError, DtypeError, ShapeError

MATRIX = np.array([[1.0, 5.0, 2.0], [4.0, 3.0, 6.0]])


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (1.5, "float32", ()),
        (3, "int64", ()),
        (True, "bool", ()),
        ([1.0, 2.0], "float32", (2,)),
        ([[1], [2]], "int64", (2, 1)),
        ([], "float32", (0,)),
        ([True, False], "bool", (2,)),
        (np.float64(1), "float64", ()),
        (np.ones(2), "float64", (2,)),
        (np.ones((2, 0), "float32"), "float32", (2, 0)),
        (np.arange(3, dtype="uint8"), "uint8", (3,)),
        (np.ones(2, "float16"), "float16", (2,)),
        (range(3), "int64", (3,)),
    ],
)
def test_a_tensor_keeps_arrays_and_takes_python_data(data, dtype, shape):
    x = sl.Tensor(data)
    assert (x.dtype, x.shape) == (dtype, shape)
    assert (x.ndim, x.size) == (len(shape), int(np.prod(shape)))


def test_a_type_can_be_asked_for():
    assert sl.Tensor([1, 2], dtype="float32").dtype == "float32"
    assert sl.Tensor(np.ones(2), dtype="float32", requires_grad=True).requires_grad


def test_data_is_shared_not_copied():
    array = np.ones(3)
    for tensor in (sl.Tensor(array), sl.Tensor(sl.Tensor(array))):
        assert tensor.data is array
        assert np.shares_memory(tensor.numpy(), array)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ("text", DtypeError, "encode text"),
        (["a", "b"], DtypeError, "encode text"),
        (1j, DtypeError, "real numbers"),
        (None, DtypeError, "real numbers"),
        (object(), DtypeError, "real numbers"),
        (2**70, DtypeError, "real numbers"),
        (np.datetime64("2026-01-01"), DtypeError, "real numbers"),
        ([[1, 2], [3]], ShapeError, "equally long"),
    ],
)
def test_other_data_is_refused(data, error, message):
    with pytest.raises(error, match=message):
        sl.Tensor(data)


def test_an_array_of_another_library_is_refused():
    class Foreign:
        dtype, shape = "float32", (2,)

        def __array_namespace__(self):
            return None

    with pytest.raises(BackendError, match="convert it with numpy"):
        ops.exp(sl.Tensor(Foreign()))


def test_conversions_to_python_and_numpy():
    x = sl.Tensor([[2.5]])
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    assert type(x.item()) is float
    assert np.asarray(x).shape == (1, 1)
    assert np.asarray(x, dtype="float64").dtype == "float64"
    assert not np.shares_memory(np.array(x, copy=True), x.numpy())
    assert sl.Tensor([1.0, 2.0]).numpy().tolist() == [1, 2]


def test_item_needs_one_element():
    for convert in (sl.Tensor.item, float, int, bool):
        with pytest.raises(ShapeError, match=r"expected one element, got shape \(2,\)"):
            convert(sl.Tensor([1.0, 2.0]))


def test_numpy_does_not_take_a_tracked_tensor_in_silence():
    x = sl.Tensor([1.0], requires_grad=True)
    with pytest.raises(DtypeError, match="would lose its gradient"):
        np.asarray(x * 2.0)
    assert (x * 2.0).numpy().tolist() == [2.0]


def test_detach_shares_values_and_has_no_gradient():
    x = sl.Tensor([1.0, 2.0], requires_grad=True)
    y = (x * 2.0).detach()
    assert (y.requires_grad, y.node, y.numpy().tolist()) == (False, None, [2.0, 4.0])
    assert x.detach().data is x.data


def test_length_and_iteration_follow_the_first_axis():
    x = sl.Tensor(MATRIX, requires_grad=True)
    first, second = x
    assert len(x) == 2
    np.testing.assert_array_equal(MATRIX[1], second.numpy())
    np.testing.assert_array_equal(
        [[1, 1, 1], [0, 0, 0]], sl.grad(first.sum(), x).numpy()
    )
    for use in (len, list):
        with pytest.raises(ShapeError, match="without axes has no length"):
            use(sl.Tensor(1.0))


def test_tensors_are_told_apart_by_identity_in_sets():
    x, y = sl.Tensor([1.0]), sl.Tensor([1.0])
    assert len({x, y, x}) == 2


def test_a_deep_copy_is_independent():
    x = sl.Tensor(MATRIX.copy(), requires_grad=True)
    y = copy.deepcopy(x)
    y.data[0, 0] = 9
    assert (x.data[0, 0], y.requires_grad) == (1, True)


def test_repr_shows_values_type_and_tracking():
    assert repr(sl.Tensor([1.0, 2.5])) == "Tensor([1. , 2.5], dtype=float32)"
    tracked = sl.Tensor(np.eye(2), requires_grad=True)
    assert repr(tracked).split("\n") == [
        "Tensor([[1., 0.],",
        "        [0., 1.]], requires_grad=True)",
    ]
    assert repr(sl.Tensor(3)) == "Tensor(3)"


METHODS = {
    "sum": (lambda x: x.sum(), MATRIX.sum()),
    "sum-axis": (lambda x: x.sum(axis=0), MATRIX.sum(axis=0)),
    "sum-keepdims": (lambda x: x.sum(1, True), MATRIX.sum(1, keepdims=True)),
    "mean": (lambda x: x.mean(), MATRIX.mean()),
    "mean-axes": (lambda x: x.mean((0, 1)), MATRIX.mean((0, 1))),
    "max": (lambda x: x.max(axis=-1), MATRIX.max(axis=-1)),
    "min": (lambda x: x.min(axis=0, keepdims=True), MATRIX.min(axis=0, keepdims=True)),
    "argmax": (lambda x: x.argmax(axis=1), MATRIX.argmax(axis=1)),
    "argmax-all": (lambda x: x.argmax(), MATRIX.argmax()),
    "reshape": (lambda x: x.reshape(3, 2), MATRIX.reshape(3, 2)),
    "reshape-tuple": (lambda x: x.reshape((6,)), MATRIX.reshape(6)),
    "transpose": (lambda x: x.transpose(), MATRIX.T),
    "transpose-axes": (lambda x: x.transpose(1, 0), MATRIX.T),
    "T": (lambda x: x.T, MATRIX.T),
    "astype": (lambda x: x.astype("float32"), MATRIX.astype("float32")),
    "abs": (lambda x: abs(-x), MATRIX),
    "getitem": (lambda x: x[1, ::2], MATRIX[1, ::2]),
    "getitem-new-axis": (lambda x: x[:, None], MATRIX[:, None]),
    "getitem-list": (lambda x: x[[1, 0, 1]], MATRIX[[1, 0, 1]]),
    "getitem-mask": (lambda x: x[x > 2], MATRIX[MATRIX > 2]),
    "getitem-numpy-integer": (lambda x: x[np.int64(1)], MATRIX[1]),
    "getitem-last": (lambda x: x[..., -1], MATRIX[..., -1]),
    "variance": (lambda x: sl.variance(x, 0), MATRIX.var(axis=0)),
    "variance-rows": (lambda x: sl.variance(x, 1), MATRIX.var(axis=1)),
    "stack": (lambda x: sl.stack([x, x], axis=-1), np.stack([MATRIX] * 2, axis=-1)),
    "clip": (lambda x: sl.clip(x, 2, 4.5), MATRIX.clip(2, 4.5)),
    "matvec": (lambda x: x @ [1.0, 2.0, 3.0], MATRIX @ [1, 2, 3]),
    "stack-matvec": (
        lambda x: x.reshape(2, 1, 3) @ [1.0, 2.0, 3.0],
        MATRIX.reshape(2, 1, 3) @ [1, 2, 3],
    ),
    "vec-stack": (
        lambda x: np.ones(1) @ x.reshape(2, 1, 3),
        np.ones(1) @ MATRIX.reshape(2, 1, 3),
    ),
    "vecmat": (lambda x: [1.0, 2.0] @ x, np.array([1, 2]) @ MATRIX),
    "dot": (lambda x: x[0] @ x[1], MATRIX[0] @ MATRIX[1]),
    "matmul-stack": (lambda x: x[None] @ x.T, (MATRIX[None] @ MATRIX.T)),
}


@pytest.mark.parametrize(("method", "expected"), METHODS.values(), ids=METHODS)
def test_methods_are_numpys(method, expected):
    got = method(sl.Tensor(MATRIX))
    np.testing.assert_allclose(expected, got.numpy(), rtol=1e-6)
    assert (got.shape, got.dtype) == (np.shape(expected), np.asarray(expected).dtype)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64"])
def test_extremes_of_whole_numbers_do_not_wrap_around(dtype):
    values = np.array([[0, 1, 5], [1, 0, 127]]).astype(dtype)
    x = sl.Tensor(values)
    np.testing.assert_array_equal(
        values.min(axis=1), x.min(axis=1).numpy(), strict=True
    )
    np.testing.assert_array_equal(
        values.max(axis=1), x.max(axis=1).numpy(), strict=True
    )
    assert x.min().item() == values.min()


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda x: x @ x, ShapeError, r"matmul: .* \(2, 3\) @ \(2, 3\)"),
        (lambda x: x @ 2.0, ShapeError, "matmul"),
        (lambda x: x + np.ones(2), ShapeError, r"add: .*\(2, 3\), .*\(2,\)"),
        (lambda x: x[2], ShapeError, r"getitem: .*\(2, 3\)"),
        (lambda x: x["a"], ShapeError, "index: expected integers"),
        (lambda x: x[0.5], ShapeError, "index: expected integers"),
        (lambda x: x[[0.5]], ShapeError, "getitem"),
        (lambda x: x.reshape(4), ShapeError, r"reshape: .*shape=\(4,\)"),
        (lambda x: x.transpose(0), ShapeError, "transpose"),
        (lambda x: x.sum(axis=2), ShapeError, "sum: .*axis=2"),
        (lambda x: x[:0].max(), ShapeError, "max"),
        (lambda x: x[:0].mean(), ShapeError, "mean: no elements"),
        (lambda x: sl.concat(x, x[0]), ShapeError, "concat"),
        (lambda x: sl.stack([x, x[0]]), ShapeError, "expected equal shapes"),
        (lambda x: sl.stack([]), ShapeError, "at least one"),
        (lambda x: sl.einsum("ij->k", x), sl.errors.ConfigError, "every letter"),
        (lambda x: sl.einsum("ii->i", x), sl.errors.ConfigError, "at most once"),
        (lambda x: sl.einsum("ij", x), sl.errors.ConfigError, "an output"),
        (lambda x: sl.einsum("jk->k", x, x), sl.errors.ConfigError, "2 terms"),
        (lambda x: sl.exp("a"), DtypeError, "encode text"),
        (lambda x: x + 1j, TypeError, "unsupported operand"),
        (lambda x: x + None, TypeError, "unsupported operand"),
        (lambda x: "a" + x, TypeError, "str"),
    ],
)
def test_mistakes_name_the_operation_and_what_came(use, error, message):
    with pytest.raises(error, match=message):
        use(sl.Tensor(MATRIX, requires_grad=True))
