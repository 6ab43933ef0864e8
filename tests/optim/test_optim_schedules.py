"""Schedules against PyTorch's schedulers and their closed forms."""

import math
import pickle

import numpy as np
import pytest

from sillar import optim
from sillar.errors import ConfigError
from sillar.optim import (
    Constant,
    CosineAnnealing,
    CosineRestarts,
    ExponentialDecay,
    LinearWarmup,
    OneCycle,
    Schedule,
    StepDecay,
)

torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
torch_schedule = torch.optim.lr_scheduler


def warm_cosine(optimizer):
    warm = torch_schedule.LinearLR(optimizer, 0.25, total_iters=10)
    cosine = torch_schedule.CosineAnnealingLR(optimizer, 40)
    return torch_schedule.SequentialLR(optimizer, [warm, cosine], [10])


CASES = [
    # schedule from rate 0.3, PyTorch's scheduler, number of steps
    (Constant(0.3), lambda o: torch_schedule.ConstantLR(o, 1.0), 20),
    (StepDecay(0.3, 7), lambda o: torch_schedule.StepLR(o, 7), 60),
    (StepDecay(0.3, 1, 0.9), lambda o: torch_schedule.StepLR(o, 1, 0.9), 60),
    (ExponentialDecay(0.3, 0.97), lambda o: torch_schedule.ExponentialLR(o, 0.97), 60),
    (
        CosineAnnealing(0.3, 50),
        lambda o: torch_schedule.CosineAnnealingLR(o, 50),
        51,
    ),
    (
        CosineAnnealing(0.3, 50, 0.01),
        lambda o: torch_schedule.CosineAnnealingLR(o, 50, 0.01),
        51,
    ),
    (
        CosineRestarts(0.3, 10),
        lambda o: torch_schedule.CosineAnnealingWarmRestarts(o, 10),
        100,
    ),
    (
        CosineRestarts(0.3, 3, 3, 0.02),
        lambda o: torch_schedule.CosineAnnealingWarmRestarts(o, 3, 3, 0.02),
        400,
    ),
    (OneCycle(0.3, 100), lambda o: torch_schedule.OneCycleLR(o, 0.3, 100), 100),
    (OneCycle(0.3, 7), lambda o: torch_schedule.OneCycleLR(o, 0.3, 7), 7),
    (
        OneCycle(0.3, 53, 0.4, 5.0, 30.0),
        lambda o: torch_schedule.OneCycleLR(
            o, 0.3, 53, pct_start=0.4, div_factor=5.0, final_div_factor=30.0
        ),
        53,
    ),
    (LinearWarmup(CosineAnnealing(0.3, 40), 10, 0.25), warm_cosine, 50),
    (
        LinearWarmup(Constant(0.3), 9),
        lambda o: torch_schedule.LinearLR(o, total_iters=9),
        20,
    ),
]


@pytest.mark.filterwarnings("ignore:The epoch parameter")  # inside SequentialLR
@pytest.mark.parametrize(
    ("ours", "theirs", "steps"), CASES, ids=[repr(c[0]) for c in CASES]
)
def test_schedule_equals_pytorch(ours, theirs, steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = theirs(optimizer)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < steps:
            scheduler.step()
    actual = [ours(step) for step in range(steps)]
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-15)


def test_every_schedule_is_compared_with_an_oracle():
    found = [getattr(optim, name) for name in optim.__all__]
    found = {c for c in found if issubclass(c, Schedule) and c is not Schedule}
    assert {type(c[0]) for c in CASES} == found


@pytest.mark.parametrize("schedule", [c[0] for c in CASES], ids=repr)
def test_schedule_is_a_pure_function_of_the_step(schedule):
    forwards = [schedule(step) for step in range(60)]
    backwards = [schedule(step) for step in reversed(range(60))]
    assert forwards == backwards[::-1]
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert all(isinstance(rate, float) and rate >= 0 for rate in forwards)


def test_rates_stay_after_the_last_step():
    for schedule, last in (
        (CosineAnnealing(0.3, 50, 0.01), 0.01),
        (OneCycle(1, 9), 4e-6),
    ):
        assert math.isclose(last, schedule(10**6))


def test_restarts_are_exact_far_out():
    schedule = CosineRestarts(1.0, 1, 10)
    starts = [(10**k - 1) // 9 for k in range(1, 15)]
    assert [schedule(start) for start in starts] == [1.0] * 14
    assert CosineRestarts(1.0, 3)(3 * 10**15) == 1.0


@pytest.mark.parametrize("steps", range(1, 12))
@pytest.mark.parametrize("pct_start", [0.0, 0.1, 0.3, 0.5, 0.99])
def test_one_cycle_of_any_length_ends_at_its_lowest_rate(steps, pct_start):
    schedule = OneCycle(1.0, steps, pct_start)
    rates = [schedule(step) for step in range(steps)]
    assert math.isclose(1 / 25e4, rates[-1])
    assert max(rates) <= 1.0


def test_warmup_rises_to_the_schedule_and_follows_it():
    schedule = LinearWarmup(StepDecay(1.0, 2, 0.5), 4, start_factor=0.0)
    expected = [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.5]
    assert expected == [schedule(step) for step in range(8)]


NAN = float("nan")
WRONG = [
    (lambda: Constant(-1), "Constant: lr must be in [0, inf), got -1"),
    (lambda: StepDecay(NAN, 1), "StepDecay: lr must be in [0, inf), got nan"),
    (
        lambda: StepDecay(1, 0),
        "StepDecay: step_size must be an integer >= 1, got 0",
    ),
    (
        lambda: StepDecay(1, 1, 0),
        "StepDecay: gamma must be in (0, inf), got 0",
    ),
    (
        lambda: ExponentialDecay(-1, 0.5),
        "ExponentialDecay: lr must be in [0, inf), got -1",
    ),
    (
        lambda: ExponentialDecay(1, -0.5),
        "ExponentialDecay: gamma must be in (0, inf), got -0.5",
    ),
    (
        lambda: CosineAnnealing(-1, 1),
        "CosineAnnealing: lr must be in [0, inf), got -1",
    ),
    (
        lambda: CosineAnnealing(1, 2.0),
        "CosineAnnealing: steps must be an integer >= 1, got 2.0",
    ),
    (
        lambda: CosineAnnealing(0.1, 2, 0.2),
        "CosineAnnealing: lr_min must be in [0, 0.1], got 0.2",
    ),
    (
        lambda: CosineRestarts(-1, 1),
        "CosineRestarts: lr must be in [0, inf), got -1",
    ),
    (
        lambda: CosineRestarts(1, 0),
        "CosineRestarts: period must be an integer >= 1, got 0",
    ),
    (
        lambda: CosineRestarts(1, 1, 1.5),
        "CosineRestarts: multiplier must be an integer >= 1, got 1.5",
    ),
    (
        lambda: CosineRestarts(1.0, 1, lr_min=-1),
        "CosineRestarts: lr_min must be in [0, 1.0], got -1",
    ),
    (lambda: OneCycle(-1, 1), "OneCycle: lr must be in [0, inf), got -1"),
    (lambda: OneCycle(1, 0), "OneCycle: steps must be an integer >= 1, got 0"),
    (
        lambda: OneCycle(1, 1, 1.0),
        "OneCycle: pct_start must be in [0, 1), got 1.0",
    ),
    (lambda: OneCycle(1, 1, div=0), "OneCycle: div must be in (0, inf), got 0"),
    (
        lambda: OneCycle(1, 1, final_div=0),
        "OneCycle: final_div must be in (0, inf), got 0",
    ),
    (
        lambda: LinearWarmup(0.1, 5),
        "LinearWarmup: expected a Schedule, got 0.1: for a fixed rate give"
        " Constant(lr)",
    ),
    (
        lambda: LinearWarmup(Constant(1), 0),
        "LinearWarmup: steps must be an integer >= 1, got 0",
    ),
    (
        lambda: LinearWarmup(Constant(1), 5, 1.5),
        "LinearWarmup: start_factor must be in [0, 1], got 1.5",
    ),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[m for _, m in WRONG])
def test_wrong_arguments(call, message):
    with pytest.raises(ConfigError) as caught:
        call()
    assert message == str(caught.value)
