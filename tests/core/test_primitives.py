"""Every primitive: data types, and a strict array library."""

import array_api_strict
import numpy as np
import pytest
from strict_backend import StrictBackend

from sillar.backends import base
from sillar.core import ops
from sillar.core.grad import grad
from sillar.core.tape import place
from sillar.core.tensor import Tensor
from sillar.errors import DtypeError, ShapeError
from sillar.testing.cases.primitives import (
    BINARY,
    CASES,
    CONSTANT,
    UNARY,
    WITHOUT_GRADIENT,
)
from sillar.testing.gradients import check_rules, is_variable

every_case = pytest.mark.parametrize(
    ("op", "args", "static"), CASES.values(), ids=CASES
)
binary = pytest.mark.parametrize("op", BINARY, ids=lambda op: op.name)
comparison = pytest.mark.parametrize(
    "op", [op for op, why in WITHOUT_GRADIENT.items() if why == "a comparison"]
)


def tensors(args, dtype):
    """Return arrays as tensors, floating-point ones as variables in `dtype`."""
    return [
        Tensor(a.astype(dtype), requires_grad=True)
        if isinstance(a, np.ndarray) and a.dtype.kind == "f"
        else a
        for a in args
    ]


def ones(y):
    return Tensor(np.ones_like(y.data))


@every_case
def test_float32_stays_float32_in_values_and_gradients_of_two_orders(op, args, static):
    inputs = tensors(args, "float32")
    y = op(*inputs, **static | ({"dtype": "float32"} if op is ops.astype else {}))
    variables = [x for x in inputs if is_variable(x)]
    gradients = grad(y, variables, cotangents=ones(y), create_graph=True)
    assert y.dtype == "float32"
    assert [(g.shape, g.dtype) for g in gradients] == [
        (x.shape, "float32") for x in variables
    ]
    check_rules(y)
    for g in gradients:
        check_rules(g)


@binary
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "number",
    [2, 2.0, True, np.float64(2), np.float32(2), np.int64(2), np.bool_(True)],
    ids=lambda number: type(number).__name__,
)
def test_numbers_take_the_type_of_what_they_meet(op, dtype, number):
    x = Tensor(np.array([0.5, 3.0], dtype), requires_grad=True)
    for y in (op(x, number), op(number, x)):
        assert y.dtype == dtype
        assert grad(y.sum(), x).dtype == dtype


@pytest.mark.parametrize(
    ("number", "dtype"),
    [(2.0, "float32"), (np.float32(2), "float32"), (np.float64(2), "float64")],
)
def test_a_number_alone_becomes_a_tensor(number, dtype):
    y = ops.sqrt(number)
    assert (y.dtype, y.shape) == (dtype, ())
    assert y.item() == pytest.approx(2**0.5)


def test_where_takes_numbers_on_either_side():
    x = Tensor([1.0, 2.0], requires_grad=True)
    for y in (ops.where(x > 1, x, 0.5), ops.where(x > 1, np.float64(0.5), x)):
        assert y.dtype == "float32"
    y = ops.where(x > 1, np.float64(0.5), x)
    np.testing.assert_array_equal([1, 0.5], y.numpy())


@binary
def test_mixed_precision_promotes_and_each_gradient_keeps_its_type(op):
    a = Tensor(np.array([0.5, 3.0], "float32"), requires_grad=True)
    b = Tensor(np.array([1.5, 2.0], "float64"), requires_grad=True)
    for y in (op(a, b), op(b, a)):
        assert y.dtype == "float64"
        assert [g.dtype for g in grad(y.sum(), [a, b])] == ["float32", "float64"]


@binary
def test_whole_numbers_beside_floats_have_no_gradient(op):
    x = Tensor(np.array([0.5, 3.0]), requires_grad=True)
    y = op(x, np.array([1, 2]))
    assert y.dtype == "float64"
    assert grad(y.sum(), x).dtype == "float64"


@pytest.mark.parametrize("op", [*UNARY, *BINARY], ids=lambda op: op.name)
def test_whole_numbers_give_what_numpy_gives(op):
    function = getattr(np, op.name, None)
    if function is None:  # composed of others, or refused
        return
    whole = [np.array([[2, 3]])] * (2 if op in BINARY else 1)
    expected, got = function(*whole), op(*whole)
    np.testing.assert_array_equal(expected, got.numpy(), strict=True)
    assert not got.requires_grad


def test_erf_of_whole_numbers_says_what_to_do():
    with pytest.raises(DtypeError, match="convert"):
        ops.erf(np.array([1, 2]))


@comparison
def test_comparisons_are_truths_without_gradient(op):
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    for y in (op(x, 2.0), op(2, x), op(x, np.array([1, 2, 4]))):
        assert (y.dtype, y.requires_grad) == ("bool", False)


NOT_STANDARD = {
    "astype": "types are objects of the namespace, not names",
    "astype-one": "types are objects of the namespace, not names",
    "astype-empty": "types are objects of the namespace, not names",
    "getitem-rows": "an index for every axis is needed",
    "getitem-empty": "an index for every axis is needed",
}
ALL = CASES | CONSTANT
STANDARD = {
    name: case
    for name, case in ALL.items()
    if name not in NOT_STANDARD and case[0] is not place  # which leaves the namespace
}


@pytest.fixture
def strict(monkeypatch):
    """Register the strict back end for one test."""
    monkeypatch.setattr(base, "_BACKENDS", dict(base._BACKENDS))
    monkeypatch.setattr(base, "_BY_TYPE", dict(base._BY_TYPE))
    base.register(StrictBackend())


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(("op", "args", "static"), STANDARD.values(), ids=STANDARD)
def test_forwards_use_only_the_array_standard(op, args, static):
    tensors = [
        Tensor(array_api_strict.asarray(a)) if isinstance(a, np.ndarray) else a
        for a in args
    ]
    expected, got = op(*args, **static).numpy(), op(*tensors, **static)
    assert type(got.data) is StrictBackend.array_types[0]
    np.testing.assert_allclose(
        expected, got.numpy(), rtol=1e-12, atol=1e-14, strict=True
    )


@pytest.mark.usefixtures("strict")
def test_exceptions_from_the_standard_are_needed():
    for name in NOT_STANDARD:
        op, args, static = CASES[name]
        tensors = [Tensor(array_api_strict.asarray(a)) for a in args]
        with pytest.raises((DtypeError, ShapeError, AttributeError)):
            op(*tensors, **static)
