"""Every rule against PyTorch, or against its paper in a few lines of NumPy."""

import numpy as np
import pytest

from sillar import optim
from sillar.optim import SGD, Adam, AdamW, Lion, Optimizer, RMSprop

torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
lr_scheduler = torch.optim.lr_scheduler

STEPS = 100
START = np.random.default_rng(1).normal(size=13)
MATRIX = np.diag(np.linspace(0.1, 2.0, 13))
NOISE = np.random.default_rng(2).normal(scale=0.3, size=(STEPS, 13))

CASES = [
    # our optimizer, PyTorch's class, its arguments
    (SGD(0.05), "SGD", {"lr": 0.05}),
    (SGD(0.05, weight_decay=0.1), "SGD", {"lr": 0.05, "weight_decay": 0.1}),
    (SGD(0.02, momentum=0.9), "SGD", {"lr": 0.02, "momentum": 0.9}),
    (
        SGD(0.02, momentum=0.7, nesterov=True, weight_decay=0.01),
        "SGD",
        {"lr": 0.02, "momentum": 0.7, "nesterov": True, "weight_decay": 0.01},
    ),
    (RMSprop(), "RMSprop", {}),
    (
        RMSprop(1e-3, alpha=0.9, eps=1e-4, weight_decay=0.1),
        "RMSprop",
        {"lr": 1e-3, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1},
    ),
    (RMSprop(centered=True), "RMSprop", {"centered": True}),
    (RMSprop(momentum=0.9), "RMSprop", {"momentum": 0.9}),
    (
        RMSprop(2e-3, momentum=0.5, centered=True),
        "RMSprop",
        {"lr": 2e-3, "momentum": 0.5, "centered": True},
    ),
    (Adam(), "Adam", {}),
    (
        Adam(0.05, beta1=0.8, beta2=0.9, eps=1e-3),
        "Adam",
        {"lr": 0.05, "betas": (0.8, 0.9), "eps": 1e-3},
    ),
    (Adam(0.01, beta1=0.0), "Adam", {"lr": 0.01, "betas": (0.0, 0.999)}),
    (AdamW(), "AdamW", {}),
    (
        AdamW(0.03, beta1=0.7, beta2=0.95, eps=1e-6, weight_decay=0.3),
        "AdamW",
        {"lr": 0.03, "betas": (0.7, 0.95), "eps": 1e-6, "weight_decay": 0.3},
    ),
]
SCHEDULED = [
    # schedule from a rate, PyTorch's scheduler over an optimizer
    (
        lambda lr: optim.StepDecay(lr, 30, 0.5),
        lambda o: lr_scheduler.StepLR(o, 30, 0.5),
    ),
    (
        lambda lr: optim.CosineAnnealing(lr, STEPS, lr / 10),
        lambda o: lr_scheduler.CosineAnnealingLR(
            o, STEPS, o.param_groups[0]["lr"] / 10
        ),
    ),
    (
        lambda lr: optim.CosineRestarts(lr, 10, 2),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 10, 2),
    ),
]
RULES = {
    "SGD": SGD(0.02, momentum=0.9),
    "RMSprop": RMSprop(0.01),
    "Adam": Adam(0.02),
    "AdamW": AdamW(0.02),
}


def gradient(p, step):
    return MATRIX @ p + NOISE[step]


def run_ours(optimizer, params):
    optimizer.bind(params)
    path = []
    for step in range(STEPS):
        assert optimizer.step([gradient(params.vector, step)])
        path.append(params.vector.copy())
    return np.array(path)


def run_torch(name, arguments, scheduler=None):
    p = torch.tensor(START, requires_grad=True)
    optimizer = getattr(torch.optim, name)([p], **arguments)
    schedule = scheduler and scheduler(optimizer)
    path = []
    for step in range(STEPS):
        p.grad = torch.tensor(gradient(p.detach().numpy(), step))
        optimizer.step()
        if schedule:
            schedule.step()
        path.append(p.detach().numpy().copy())
    return np.array(path)


def close(expected, actual):
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("optimizer", "name", "arguments"), CASES, ids=[repr(c[0]) for c in CASES]
)
def test_trajectory_equals_pytorch(parameters, optimizer, name, arguments):
    actual = run_ours(optimizer, parameters(p=START))
    close(run_torch(name, arguments), actual)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("ours", "theirs"), SCHEDULED, ids=["step", "cos", "sgdr"])
def test_scheduled_trajectory_equals_pytorch(parameters, name, ours, theirs):
    rule = RULES[name]
    extra = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = type(rule)(ours(rule.lr), **extra)
    actual = run_ours(optimizer, parameters(p=START))
    close(run_torch(name, {"lr": rule.lr} | extra, theirs), actual)


@pytest.mark.parametrize(
    ("lr", "beta1", "beta2", "decay"),
    [(1e-4, 0.9, 0.99, 0.0), (0.01, 0.95, 0.98, 0.1), (0.003, 0.0, 0.5, 1.0)],
)
def test_lion_equals_algorithm_2_of_its_paper(parameters, lr, beta1, beta2, decay):
    theta, m, expected = START.copy(), np.zeros_like(START), []
    for step in range(STEPS):
        g = gradient(theta, step)
        c = beta1 * m + (1 - beta1) * g
        theta = theta - lr * (np.sign(c) + decay * theta)
        m = beta2 * m + (1 - beta2) * g
        expected.append(theta)
    optimizer = Lion(lr, beta1=beta1, beta2=beta2, weight_decay=decay)
    close(expected, run_ours(optimizer, parameters(p=START)))


def test_centered_rmsprop_survives_a_constant_gradient(parameters):
    optimizer = RMSprop(1e-9, alpha=0.5, centered=True).bind(parameters(p=[1.0]))
    for _ in range(200):  # the variance rounds to zero, or below it
        optimizer.step(np.array([0.1]))
    assert np.isfinite(optimizer.params.vector).all()


def test_adam_takes_a_zero_gradient(parameters):
    optimizer = Adam().bind(parameters(p=[1.0, 2.0]))
    optimizer.step(np.zeros(2))
    np.testing.assert_array_equal([1.0, 2.0], optimizer.params.vector)


def test_every_rule_is_compared_with_an_oracle():
    rules = [getattr(optim, name) for name in optim.__all__]
    rules = {c for c in rules if issubclass(c, Optimizer) and c is not Optimizer}
    assert {type(c[0]) for c in CASES} | {Lion} == rules
