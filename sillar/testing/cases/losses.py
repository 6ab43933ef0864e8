"""Cases of all losses, with predictions and targets to try them on."""

from __future__ import annotations

import numpy as np

from sillar import nn
from sillar.testing.cases.layers import normal

LOGITS = normal(5, 3) * 2
LABELS = np.array([0, 2, 1, 1, 0])
SOFT = np.abs(normal(5, 3, seed=1)) / np.abs(normal(5, 3, seed=1)).sum(1, keepdims=True)
WEIGHTS = [0.5, 2.0, 1.5]
SCORES = normal(4, 3, seed=2) * 2
OTHERS = normal(4, 3, seed=3)
BITS = (normal(4, 3, seed=4) > 0).astype("int64")
SIGNS = 2 * BITS - 1

# name: loss, prediction, target
CASES = {
    "MSE": (nn.MSE(), SCORES, OTHERS),
    "MAE": (nn.MAE(), SCORES, OTHERS),
    "Huber": (nn.Huber(), SCORES, OTHERS),
    "Huber-delta": (nn.Huber(2.0), SCORES, OTHERS),
    "Hinge": (nn.Hinge(), SCORES, SIGNS),
    "Hinge-margin": (nn.Hinge(0.5), SCORES, SIGNS),
    "BinaryCrossEntropy": (nn.BinaryCrossEntropy(), SCORES, BITS),
    "BinaryCrossEntropy-weight": (
        nn.BinaryCrossEntropy(positive_weight=3.0),
        SCORES,
        np.abs(OTHERS) / 4,
    ),
    "CrossEntropy": (nn.CrossEntropy(), LOGITS, LABELS),
    "CrossEntropy-soft": (nn.CrossEntropy(), LOGITS, SOFT),
    "CrossEntropy-weights": (nn.CrossEntropy(weights=WEIGHTS), LOGITS, LABELS),
    "CrossEntropy-soft-weights": (nn.CrossEntropy(weights=WEIGHTS), LOGITS, SOFT),
    "CrossEntropy-smooth": (nn.CrossEntropy(label_smoothing=0.2), LOGITS, LABELS),
    "CrossEntropy-ignore": (nn.CrossEntropy(ignore_index=1), LOGITS, LABELS),
    "CrossEntropy-all": (
        nn.CrossEntropy(weights=WEIGHTS, label_smoothing=0.1, ignore_index=-100),
        normal(2, 4, 3),
        np.array([[0, -100, 2, 1], [1, 1, -100, -100]]),
    ),
    "Focal": (nn.Focal(), SCORES, BITS),
    "Focal-alpha": (nn.Focal(1.5, alpha=0.25), SCORES, BITS),
    "Focal-classes": (nn.Focal(), LOGITS, LABELS),
    "Focal-classes-alpha": (nn.Focal(1.5, alpha=WEIGHTS), LOGITS, LABELS),
    "Focal-classes-half": (nn.Focal(0.5), LOGITS, LABELS),
    "Focal-sequence": (
        nn.Focal(alpha=WEIGHTS),
        normal(2, 4, 3),
        np.array([[0, 2, 1, 0], [1, 1, 2, 0]]),
    ),
    "Focal-plain": (nn.Focal(0.0), LOGITS, LABELS),
}
