"""Optimizers, learning-rate schedules, gradient transforms and penalties."""

from sillar.optim.adam import Adam, AdamW
from sillar.optim.lion import Lion
from sillar.optim.loss_scale import LossScale
from sillar.optim.optimizer import Optimizer
from sillar.optim.penalty import L1, L2, Penalty
from sillar.optim.rmsprop import RMSprop
from sillar.optim.schedule import (
    Constant,
    CosineAnnealing,
    CosineRestarts,
    ExponentialDecay,
    LinearWarmup,
    OneCycle,
    Schedule,
    StepDecay,
)
from sillar.optim.sgd import SGD
from sillar.optim.transform import (
    Accumulate,
    ClipNorm,
    ClipValue,
    SkipNonFinite,
    Transform,
)

__all__ = [
    "L1",
    "L2",
    "SGD",
    "Accumulate",
    "Adam",
    "AdamW",
    "ClipNorm",
    "ClipValue",
    "Constant",
    "CosineAnnealing",
    "CosineRestarts",
    "ExponentialDecay",
    "LinearWarmup",
    "Lion",
    "LossScale",
    "OneCycle",
    "Optimizer",
    "Penalty",
    "RMSprop",
    "Schedule",
    "SkipNonFinite",
    "StepDecay",
    "Transform",
]
