"""How sharp is a minimum? Curvature of a classifier's loss, without its Hessian.

    python examples/hessian_vector.py

The Hessian of a model with n parameters has n * n numbers. Its product with a vector
costs two gradients. From products alone come the largest eigenvalues (Lanczos 1950) and
the trace (Hutchinson 1989).
"""

from collections.abc import Callable

import numpy as np

import sillar as sl
from sillar import nn

Product = Callable[[np.ndarray], np.ndarray]


def hessian_product(model: nn.Layer, loss: nn.Loss, data: sl.data.Dataset) -> Product:
    """Return v -> H v, H being the Hessian of the loss at the model's parameters."""
    parameters = model.parameters()
    value = loss(model(data.x), data.y)
    gradient = sl.grad(value, parameters, create_graph=True)

    def product(v: np.ndarray) -> np.ndarray:
        parts = {
            path: sl.Tensor(v[place].reshape(parameters[path].shape))
            for path, place in parameters.slices.items()
        }
        return parameters.pack(sl.grad(gradient, parameters, cotangents=parts))

    return product


def largest_eigenvalues(product: Product, size: int, steps: int) -> np.ndarray:
    """Return Lanczos' estimates, largest first, with full reorthogonalisation."""
    basis = np.zeros((steps, size))
    diagonal, beside = np.zeros(steps), np.zeros(steps)
    v = sl.Rng(0).split("lanczos").normal((size,), "float64")
    for k in range(steps):
        v = v / np.linalg.norm(v)
        basis[k] = v
        w = product(v)
        diagonal[k] = v @ w
        w = w - basis[: k + 1].T @ (basis[: k + 1] @ w)
        v = w - basis[: k + 1].T @ (basis[: k + 1] @ w)  # twice is enough
        beside[k] = np.linalg.norm(v)
    matrix = np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1)
    return np.sort(np.linalg.eigvalsh(matrix))[::-1]


def trace(product: Product, size: int, draws: int) -> float:
    """Return the mean of v' H v over random signs v."""
    total = 0.0
    for i in range(draws):
        signs = sl.Rng(0).split("trace", i).integers(0, 2, (size,)) * 2.0 - 1.0
        total += signs @ product(signs)
    return total / draws


def main(epochs: int = 15, steps: int = 30, draws: int = 50) -> np.ndarray:
    """Train a small classifier and print the curvature where it ended."""
    train, _ = sl.data.digits().split(test=0.2, seed=0)
    model = nn.Sequential(nn.Flatten(), nn.Dense(64, 8), nn.Tanh(), nn.Dense(8, 10))
    model.init(sl.Rng(0), dtype="float64")
    loss = sl.CrossEntropy()
    sl.fit(model, loss, sl.Adam(1e-2), train, epochs=epochs, callbacks=())

    size = model.parameters().size
    product = hessian_product(model, loss, train.take(slice(0, 256)))
    eigenvalues = largest_eigenvalues(product, size, min(steps, size))
    print(f"{size} parameters, a Hessian of {size**2:,} numbers, never formed")
    print("largest eigenvalues:", np.round(eigenvalues[:5], 3))
    print(f"trace: {trace(product, size, draws):.3f}")
    return eigenvalues


if __name__ == "__main__":
    main()
