"""The networks that are timed, as plain descriptions every library is built from."""

import itertools

import numpy as np

import sillar as sl
from sillar import nn


def mlp(*sizes):
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Dense(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn():
    return nn.Sequential(
        *(nn.Conv2D(1, 32, 3), nn.ReLU(), nn.Conv2D(32, 64, 3), nn.ReLU()),
        *(nn.MaxPool2D(2), nn.Flatten(), nn.Dense(9216, 128), nn.ReLU()),
        nn.Dense(128, 10),
    )


def convnet():
    """The Keras examples' network on MNIST, without dropout: 34,826 parameters."""
    return nn.Sequential(
        *(nn.Conv2D(1, 32, 3), nn.ReLU(), nn.MaxPool2D(2)),
        *(nn.Conv2D(32, 64, 3), nn.ReLU(), nn.MaxPool2D(2)),
        *(nn.Flatten(), nn.Dense(1600, 10)),
    )


# name: how to make the model, shape of an example, classes, batch
WORKLOADS = {
    "small": (lambda: mlp(122, 64, 32, 5), (122,), 5, 64),
    "mlp": (lambda: mlp(784, 256, 128, 10), (784,), 10, 128),
    "cnn": (cnn, (28, 28, 1), 10, 64),
    "convnet": (convnet, (28, 28, 1), 10, 128),
}


def load(name):
    """Return a workload's model with its first weights, its inputs and its labels."""
    make, shape, classes, n = WORKLOADS[name]
    model = make().init(sl.Rng(0))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, *shape)).astype("float32")
    return model, x, rng.integers(0, classes, n)
