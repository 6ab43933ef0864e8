"""A layer of your own, with a gradient of its own, checked and trained.

    python examples/own_layer.py

The layer measures how far each input lies from trained centres and answers with radial
basis functions, exp(-|x - c|^2 / 2). Its squared distances are written as a matrix
product, and its backward as two.
"""

import tempfile
from pathlib import Path

import numpy as np

import sillar as sl
from sillar import nn
from sillar.testing import check_layer


class Radial(nn.Layer):
    """Closeness to centres: x (n, n_in) -> exp(-|x - c|^2 / 2), (n, n_out)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        self.n_in, self.n_out = n_in, n_out
        self.centres = nn.Parameter((n_out, n_in), nn.initializers.standard_normal)

    def forward(self, x):
        """Return |x|^2 - 2 x c + |c|^2, through the exponential."""
        if x.ndim != 2 or x.shape[1] != self.n_in:
            raise sl.errors.ShapeError(
                f"{self!r}: expected input (n, {self.n_in}), got {x.shape}"
            )
        c = self.centres
        squares = (x * x).sum(axis=1, keepdims=True) + (c * c).sum(axis=1)
        return sl.exp((x @ c.T) - squares * 0.5)

    def backward(self, g, x):
        """Return the gradients for x and for the centres.

        With s = g * y: dx = s c - x sum_j s_j, dc = s' x - c sum_i s_i. It is written
        in tensor operations, so it has a gradient too.
        """
        s = g * self.forward(x)
        dx = s @ self.centres - x * s.sum(axis=1, keepdims=True)
        dc = s.T @ x - self.centres * s.sum(axis=0).reshape(-1, 1)
        return dx, dc


def rings(n: int, seed: int = 0) -> sl.data.Dataset:
    """Return points in the plane: class 0 in a disc, class 1 in a ring around it."""
    rng = sl.Rng(seed)
    y = rng.split("label").integers(0, 2, (n,))
    angle = rng.split("angle").uniform((n,), high=2 * np.pi)
    radius = rng.split("radius").uniform((n,)) + y * 0.9
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return sl.data.Dataset(x, y, classes=("disc", "ring"), name="rings")


def main(n: int = 2000, epochs: int = 20) -> float:
    """Check the layer, train with it, and return the accuracy on new points."""
    check_layer(Radial(3, 4), sl.Rng(1).normal((5, 3)))
    print("Radial keeps a layer's promises, to second order")

    model = nn.Sequential(Radial(2, 12), nn.Dense(12, 2))
    train, test = rings(n).split(test=0.25, seed=0)
    sl.fit(model, sl.CrossEntropy(), sl.Adam(1e-2), train, epochs=epochs, callbacks=())
    accuracy = sl.evaluate(model, test)["accuracy"]
    print(f"{accuracy:.1%} of {len(test)} new points are right")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rings.safetensors"
        sl.save(model, path)  # without architecture, for Radial is no layer of ours
        empty = nn.Sequential(Radial(2, 12), nn.Dense(12, 2))
        loaded = sl.load(path, empty)
    same = np.array_equal(sl.predict(loaded, test.x), sl.predict(model, test.x))
    print("the saved model predicts", "the same" if same else "something else")
    return accuracy


if __name__ == "__main__":
    main()
