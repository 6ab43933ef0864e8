"""A random forest of scikit-learn (extra `sklearn`), to stand beside a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from sillar.errors import missing

TREES = 100


def random_forest(x: Any, y: Any, other: Any, classes: int, seed: int) -> Any:
    """Return probabilities (m, classes) of `other` (m, k), fitted on x (n, k), y.

    Breiman 2001; a class without a row in `y` has probability 0.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError:
        raise missing("scikit-learn", "sklearn", "a random forest") from None
    forest = RandomForestClassifier(TREES, random_state=seed).fit(x, y)
    found = np.zeros((len(other), classes))
    found[:, forest.classes_] = forest.predict_proba(other)
    return found
