"""Operators between tensors, arrays and numbers, both ways round."""

import operator

import numpy as np
import pytest

import sillar as sl
from sillar.errors import DtypeError

A = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
B = np.array([2.0, 0.5, 1.0])
ARITHMETIC = {
    f.__name__: f
    for f in (
        *(operator.add, operator.sub, operator.mul, operator.truediv, operator.pow),
        *(operator.gt, operator.ge, operator.lt, operator.le, operator.eq, operator.ne),
    )
}
OTHERS = {
    "tensor": sl.Tensor(B),
    "array": B,
    "0-d array": np.array(2.0),
    "numpy float": np.float64(2.0),
    "numpy integer": np.int64(2),
    "float": 2.0,
    "integer": 2,
    "truth": True,
    "list": [2.0, 0.5, 1.0],
}
arithmetic = pytest.mark.parametrize("f", ARITHMETIC.values(), ids=ARITHMETIC)
others = pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)


def plain(x):
    return x.numpy() if isinstance(x, sl.Tensor) else x


@arithmetic
@others
def test_both_ways_round_give_tensors_with_numpys_values(f, other):
    x = sl.Tensor(A, requires_grad=True)
    for expected, got in (
        (f(A, np.asarray(plain(other))), f(x, other)),
        (f(np.asarray(plain(other)), A), f(other, x)),
    ):
        assert type(got) is sl.Tensor
        np.testing.assert_allclose(expected, got.numpy(), rtol=1e-7)
        assert got.requires_grad == (expected.dtype != bool)


def test_matrix_products_both_ways_round():
    x = sl.Tensor(A, requires_grad=True)
    for expected, got in ((A @ A.T, x @ A.T), (A.T @ A, A.T @ x), (A @ B, x @ B)):
        assert type(got) is sl.Tensor
        np.testing.assert_allclose(expected, got.numpy())
    gradient = sl.grad((A.T @ x).sum(), x)
    np.testing.assert_allclose(A @ np.ones((3, 3)), gradient.numpy())


UFUNCS = [
    *(np.exp, np.expm1, np.log, np.log1p, np.sqrt, np.sin, np.cos, np.tanh),
    *(np.absolute, np.sign, np.negative),
]


@pytest.mark.parametrize("f", UFUNCS, ids=lambda f: f.__name__)
def test_numpys_functions_of_a_tensor_are_recorded(f):
    x = sl.Tensor(A, requires_grad=True)
    y = f(x)
    assert type(y) is sl.Tensor
    np.testing.assert_allclose(f(A), y.numpy())
    assert y.requires_grad == (f is not np.sign)


def test_numpys_functions_of_two_arguments_are_recorded():
    x = sl.Tensor(A, requires_grad=True)
    for f in (np.add, np.maximum, np.minimum, np.multiply, np.power, np.divide):
        for y in (f(x, B), f(B, x), f(x, x)):
            assert (type(y), y.requires_grad) == (sl.Tensor, True)


@pytest.mark.parametrize(
    "use",
    [np.log2, np.add.reduce, lambda x: np.add.outer(x, x), np.add.accumulate],
    ids=["log2", "reduce", "outer", "accumulate"],
)
def test_numpys_functions_without_a_primitive_are_refused(use):
    with pytest.raises(DtypeError, match=r"numpy\.\w+: no such function for tensors"):
        use(sl.Tensor(A, requires_grad=True))


@pytest.mark.parametrize(
    "f", [operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow]
)
def test_in_place_into_an_array_says_what_to_write(f):
    array, x = A.copy(), sl.Tensor(A, requires_grad=True)
    with pytest.raises(DtypeError, match=r"write a = a \+ x, not a \+= x"):
        f(array, x)
    np.testing.assert_array_equal(A, array)


def test_in_place_on_a_tensor_makes_a_new_one():
    x = sl.Tensor(A.copy(), requires_grad=True)
    y = x
    y += 1.0
    assert y is not x
    np.testing.assert_array_equal(A, x.numpy())
    np.testing.assert_array_equal(np.ones_like(A), sl.grad(y.sum(), x).numpy())


def test_comparison_with_other_things_is_by_identity():
    x = sl.Tensor(A)
    assert (x == "a", x != "a", x == None) == (False, True, False)  # noqa: E711
