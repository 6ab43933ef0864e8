"""jvp, vjp, hvp, jacobian and hessian against torch.func and closed forms."""

import numpy as np
import pytest
import torch

import sillar as sl
from sillar.errors import GradientError, ShapeError

# torch.func still scripts a helper of its own when it first meets forward mode
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

rng = np.random.default_rng(30)
X, Y, V, W = (rng.normal(size=(2, 3)) for _ in range(4))


def f(x):
    """Return a function of a matrix that PyTorch can compute too."""
    return (x @ x.T).sum() * (x * x * x).sum()


def g(x):
    return x * x @ x.T


def h(x, y):
    return x * x * y


def near(expected, got):
    np.testing.assert_allclose(expected, got.numpy(), rtol=1e-12, atol=1e-12)


def torch_of(*arrays):
    return tuple(map(torch.tensor, arrays))


def test_jvp_is_torchs():
    value, tangent = sl.jvp(h, (X, Y), (V, W))
    expected_value, expected = torch.func.jvp(h, torch_of(X, Y), torch_of(V, W))
    near(expected_value, value)
    near(expected, tangent)


def test_jvp_of_one_tensor_needs_no_tuple():
    near(torch.func.jvp(g, torch_of(X), torch_of(V))[1], sl.jvp(g, X, V)[1])


def test_jvp_of_several_outputs_is_a_tuple():
    (a, b), (da, db) = sl.jvp(lambda x: (x * x, x.sum()), X, V)
    near(X * X, a)
    near(2 * X * V, da)
    near(X.sum(), b)
    near(V.sum(), db)


def test_jvp_of_a_constant_is_zero():
    value, tangent = sl.jvp(lambda x: sl.sign(x), X, V)
    near(np.sign(X), value)
    near(np.zeros((2, 3)), tangent)


def test_vjp_is_torchs():
    value, pullback = sl.vjp(h, X, Y)
    expected_value, expected = torch.func.vjp(h, *torch_of(X, Y))
    near(expected_value.detach(), value)
    for theirs, ours in zip(expected(torch.tensor(V)), pullback(V), strict=True):
        near(theirs.detach(), ours)


def test_vjp_of_one_tensor_gives_one_gradient():
    _, pullback = sl.vjp(g, X)
    u = rng.normal(size=(2, 2))
    near(torch.func.vjp(g, *torch_of(X))[1](torch.tensor(u))[0].detach(), pullback(u))


def test_a_pulled_back_gradient_can_be_differentiated():
    x = sl.Tensor(X, requires_grad=True)
    _, pullback = sl.vjp(lambda x: x * x * x, x)
    near(6 * X * V, sl.grad(pullback(V).sum(), x))


def test_jvp_and_vjp_are_transposes():
    u = rng.normal(size=(2, 2))
    _, tangent = sl.jvp(g, X, V)
    _, pullback = sl.vjp(g, X)
    near((tangent.numpy() * u).sum(), (pullback(u) * V).sum())


def test_hvp_is_the_hessian_times_the_vector():
    hessian = torch.func.hessian(f)(torch.tensor(X)).reshape(6, 6).numpy()
    near((hessian @ V.ravel()).reshape(2, 3), sl.hvp(f, X, V))


def test_hvp_of_several_primals_mixes_them():
    def scalar(x, y):
        return (x * x * y).sum()

    d_x, d_y = sl.hvp(scalar, (X, Y), (V, W))
    near(2 * Y * V + 2 * X * W, d_x)
    near(2 * X * V, d_y)


def test_hvp_of_a_linear_function_is_zero():
    near(np.zeros((2, 3)), sl.hvp(lambda x: x.sum(), X, V))


def test_jacobian_is_torchs():
    near(torch.func.jacrev(g)(torch.tensor(X)), sl.jacobian(g, X))


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (0, 2)])
def test_jacobian_has_the_shape_of_output_and_input(shape):
    x = np.ones(shape)
    diagonal = np.eye(x.size).reshape(shape + shape) * 2
    near(diagonal, sl.jacobian(lambda x: x * 2.0, x))
    near(np.ones(shape), sl.jacobian(lambda x: x.sum(), x))


def test_hessian_is_torchs():
    near(torch.func.hessian(f)(torch.tensor(X)), sl.hessian(f, X))


def test_hessian_of_a_quadratic_is_its_matrix():
    a = rng.normal(size=(4, 4))
    near(a + a.T, sl.hessian(lambda x: x @ (a @ x), rng.normal(size=4)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_derivatives_keep_the_type(dtype):
    x, v = X.astype(dtype), V.astype(dtype)
    results = [
        *sl.jvp(g, x, v),
        sl.vjp(h, x, x)[1](v)[0],
        *(sl.hvp(f, x, v), sl.jacobian(g, x), sl.hessian(f, x)),
    ]
    assert {str(result.dtype) for result in results} == {dtype}


def test_python_numbers_and_lists_are_inputs():
    assert sl.hessian(lambda x: x * x * x, 2.0).item() == 12.0
    near(np.diag([2.0, 4.0]), sl.jacobian(lambda x: x * x, [1.0, 2.0]))


def test_the_gradient_of_a_hessian_vector_product_is_the_third_derivative():
    x = sl.Tensor(X, requires_grad=True)
    product = sl.hvp(lambda x: (x * x * x * x).sum(), x, V)
    near(24 * X * V, sl.grad(product.sum(), x))


def test_the_hessian_of_a_function_of_a_jacobian():
    def penalty(x):
        jacobian = sl.jacobian(lambda z: z * z * z, x)
        return (jacobian * jacobian).sum()

    x = np.array([0.5, -1.0, 2.0])
    near(np.diag(108 * x**2), sl.hessian(penalty, x))


def test_jvp_of_a_jvp_is_the_second_directional_derivative():
    def directional(x):
        return sl.jvp(lambda z: sl.exp(z), x, V)[1]

    near(np.exp(X) * V * W, sl.jvp(directional, X, W)[1])


def test_inputs_outside_keep_their_own_gradient():
    scale = sl.Tensor(3.0, dtype="float64", requires_grad=True)
    product = sl.hvp(lambda x: (x * x).sum() * scale, X, V)
    near((2 * V).sum(), sl.grad(product.sum(), scale))


def test_derivatives_work_inside_no_grad():
    with sl.no_grad():
        near(np.exp(X) * V, sl.jvp(sl.exp, X, V)[1])
        near(np.diag(np.exp(X[0])), sl.jacobian(sl.exp, X[0]))
        near(np.exp(X) * V, sl.hvp(lambda x: sl.exp(x).sum(), X, V))


def test_mistakes_say_what_was_expected():
    with pytest.raises(ShapeError, match=r"jvp: .* shape \(2, 3\) of its primal"):
        sl.jvp(g, X, V[0])
    with pytest.raises(GradientError, match="hvp: got 1 primals and 2 vectors"):
        sl.hvp(f, X, (V, W))
    with pytest.raises(GradientError, match="expected a scalar output"):
        sl.hessian(g, X)
    with pytest.raises(ShapeError, match="expected cotangents of shapes"):
        sl.vjp(g, X)[1](V)
