"""What the tests of cross-validation run in processes of their own."""

import os

import numpy as np


def nearest_mean(train, test, fold):
    """Classify by the nearer class mean; say who ran it."""
    means = np.stack([train.x[train.y == c].mean(axis=0) for c in (0, 1)])
    gaps = ((test.x[:, None] - means) ** 2).sum(axis=2)
    right = float((gaps.argmin(axis=1) == test.y).mean())
    return {"accuracy": right, "pid": os.getpid(), "fold": fold}


def canary(train, test, fold):
    """Say whether what marks the test rows is in what can be fitted."""
    return {"leaked": float(np.isin(test.x[:, 0], train.x[:, 0]).any())}


def broken(train, test, fold):
    """Fail in the second fold."""
    if fold == 1:
        raise ArithmeticError("fold 1 cannot be fitted")
    return {"accuracy": 1.0}
