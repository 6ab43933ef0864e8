"""What the tests of training share: small data, small models, and what to compare."""

import json

import numpy as np

import sillar as sl
from sillar import nn
from sillar.data import Dataset


def blobs(n=60, seed=0, classes=3, dtype="float32"):
    """Return points (n, 4) around one centre for each class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.normal(size=(n, 4)) + 2 * np.eye(classes, 4)[y]
    return Dataset(x.astype(dtype), y.astype("int64"))


def net(classes=3):
    return nn.Sequential(nn.Dense(4, 8), nn.Tanh(), nn.Dense(8, classes))


def rich_net(classes=3):
    """Return a model with everything that carries state or draws at random."""
    return nn.Sequential(
        nn.Dense(4, 8),
        nn.BatchNorm(8),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Dense(8, classes),
    )


def train(model, data=None, loss=None, optimizer=None, **options):
    """Call `fit` quietly, with defaults for what a test does not care about."""
    options = {"epochs": 2, "batch_size": 8, "callbacks": ()} | options
    return sl.fit(
        model,
        loss or sl.CrossEntropy(),
        optimizer or sl.Adam(1e-2),
        blobs() if data is None else data,
        **options,
    )


def bits(arrays):
    """Return the bytes of every array of a model or of a state."""
    if isinstance(arrays, nn.Layer):
        arrays = arrays.state()
    return {
        name: np.asarray(a).tobytes() if hasattr(a, "tobytes") else a
        for name, a in arrays.items()
    }


def timeless(history):
    """Return the metrics of each epoch without what a clock says."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def logged(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return timeless(map(json.loads, lines))


class Do(sl.Callback):
    """Call functions of the run at its events."""

    def __init__(self, **functions):
        for event, function in functions.items():
            setattr(self, event, function)


class CrashError(Exception):
    """What a test lets a run die of."""


def crash_at(step):
    def on_step(run):
        if run.step == step:
            raise CrashError

    return Do(on_step=on_step)
