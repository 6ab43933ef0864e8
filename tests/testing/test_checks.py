"""The public checks: what is right passes, and each broken promise is caught."""

import numpy as np
import pytest

import sillar as sl
from sillar import nn, optim
from sillar.errors import ConfigError, DtypeError, GradientError, ShapeError
from sillar.nn.initializers import he_normal, ones
from sillar.testing import check_layer, check_loss, check_optimizer

X = np.random.default_rng(0).normal(size=(4, 3))


class Scaled(nn.Layer):
    """A right layer, from which the wrong ones differ in one place."""

    def __init__(self):
        self.scale = nn.Parameter((3,), ones)

    def forward(self, x):
        return x * self.scale


class Wide(Scaled):
    def forward(self, x):
        return x * self.scale * np.ones(3)


class Hidden(Scaled):
    def __init__(self):
        super().__init__()
        self.kept = frozenset([sl.Tensor(np.ones(3), requires_grad=True)])

    def forward(self, x):
        return super().forward(x) * next(iter(self.kept))


class HiddenParameter(Scaled):
    def __init__(self):
        super().__init__()
        self.kept = {nn.Parameter((3,), ones)}

    def forward(self, x):
        return super().forward(x) * next(iter(self.kept))


class Mixing(Scaled):
    def forward(self, x):
        return super().forward(x) - x.mean(axis=0, keepdims=True)


class MixingInTraining(Scaled):
    def forward(self, x):
        y = super().forward(x)
        return y + y.sum() if nn.is_training() else y


class OneRow(Scaled):
    def forward(self, x):
        y = super().forward(x)
        return y if len(x) > 1 else y.sum(axis=0)


class Jumping(Scaled):
    def forward(self, x):
        return super().forward(x) + (1.0 if len(x) == 1 else 0.0)


class Forgetful(nn.Layer):
    """Keeps a statistic where `state` does not look."""

    def __init__(self):
        self.seen = 0.0

    def forward(self, x):
        if not nn.is_training():
            return x * 2.0 + self.seen
        self.seen = x.detach().sum().item()
        return x * 2.0


class Detached(Scaled):
    def forward(self, x):
        return x.detach() * self.scale + x


class Partial(Scaled):
    def state(self):
        return {}


WRONG_LAYERS = {
    "wide": (Wide(), DtypeError, "expected float32 from float32 inputs, got float64"),
    "hidden": (Hidden(), GradientError, r"got others of shapes \[\(3,\)\]"),
    "hidden parameter": (HiddenParameter(), ConfigError, "has no value yet"),
    "mixing": (Mixing(), GradientError, "mixes_batch = True"),
    "mixing in training": (MixingInTraining(), GradientError, "mixes_batch = True"),
    "one row": (OneRow(), ShapeError, r"\(1, 3\) from a batch of 1, got \(3,\)"),
    "another row": (Jumping(), GradientError, "the output of a batch of 1"),
    "forgetful": (Forgetful(), ConfigError, r"load_state\(state\(\)\) to bring"),
    "detached": (Detached(), GradientError, "differences give"),
    "partial state": (Partial(), ConfigError, r"expected state\(\) to hold"),
}


def test_a_right_layer_passes():
    check_layer(Scaled(), X)
    check_layer(nn.Sequential(Scaled(), nn.BatchNorm(3)), X)


@pytest.mark.parametrize(
    ("layer", "error", "message"), WRONG_LAYERS.values(), ids=WRONG_LAYERS
)
def test_a_layer_that_breaks_a_promise_is_caught(layer, error, message):
    with pytest.raises(error, match=message) as caught:
        check_layer(layer, X)
    assert type(layer).__name__ in str(caught.value)


def test_mixing_is_allowed_where_it_is_declared():
    declared = type("Declared", (Mixing,), {"mixes_batch": True})
    check_layer(nn.Sequential(declared()), X[:, :3])


def test_a_layer_may_refuse_small_batches():
    class AtLeastTwo(Scaled):
        def forward(self, x):
            if len(x) < 2:
                raise ShapeError("AtLeastTwo: expected two examples or more")
            return super().forward(x)

    check_layer(AtLeastTwo(), X)


def test_the_checked_layer_is_left_alone():
    layer = Scaled().init(sl.Rng(0))
    before = layer.scale.data
    check_layer(layer, X)
    assert layer.scale.data is before
    assert before.tolist() == [1, 1, 1]


def test_several_inputs_and_whole_numbers_are_taken():
    class Picked(nn.Layer):
        def __init__(self):
            self.table = nn.Parameter((5, 3), he_normal)

        def forward(self, x, i):
            return x * self.table[i]

    check_layer(Picked(), X, np.array([0, 4, 4, 1]))


def loss_with(**methods):
    return type("Wrong", (nn.MSE,), methods)()


def doubled(loss):
    return 2.0 if loss.reduction == "sum" else 1.0


SLOPES = nn.MSE.slopes
WRONG_LOSSES = {
    "sign": ({"slopes": lambda s, p, t: -SLOPES(s, p, t)}, GradientError, "gradient"),
    "factor": (
        {"slopes": lambda s, p, t: SLOPES(s, p, t) * 0.5},
        GradientError,
        "gradient",
    ),
    "a little off": (
        {"slopes": lambda s, p, t: SLOPES(s, p, t) * (1 + 1e-8)},
        GradientError,
        "gradient",
    ),
    "shape": ({"slopes": lambda s, p, t: SLOPES(s, p, t)[0]}, ShapeError, "gradient"),
    "constant slopes": (
        {"slopes": lambda s, p, t: SLOPES(s, p.detach(), t)},
        GradientError,
        "order 1, the prediction",
    ),
    "wide": (
        {"elements": lambda s, p, t: (p - t) * (p - t) * np.ones(3)},
        DtypeError,
        "compute: expected float32",
    ),
    "wide slopes": (
        {"slopes": lambda s, p, t: SLOPES(s, p, t) * np.ones(3)},
        DtypeError,
        "gradient: expected float32",
    ),
    "count": ({"count": lambda s, p, t: p.shape[0]}, GradientError, "empty batch"),
    "sum": (
        {
            "compute": lambda s, p, t: nn.MSE.compute(s, p, t) * doubled(s),
            "gradient": lambda s, p, t: nn.MSE.gradient(s, p, t) * doubled(s),
        },
        GradientError,
        "the sum of the elements",
    ),
}


def test_a_right_loss_passes():
    check_loss(nn.MSE(), X, X[::-1])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(
    ("methods", "error", "message"), WRONG_LOSSES.values(), ids=WRONG_LOSSES
)
def test_a_loss_that_breaks_a_promise_is_caught(methods, error, message):
    with pytest.raises(error, match=message) as caught:
        check_loss(loss_with(**methods), X, X[::-1])
    assert "[in Wrong" in str(caught.value)


class Momentum(optim.Optimizer):
    """A right optimizer, from which the wrong ones differ in one place."""

    def __init__(self, lr=0.1):
        super().__init__(lr)

    def init(self, p):
        return {"m": np.zeros_like(p)}

    def update(self, p, g, s, lr, t):
        m = s["m"] * 0.5 + g
        return p - lr * m, {"m": m}


class Uphill(Momentum):
    def update(self, p, g, s, lr, t):
        return p + lr * g, s


class Normed(Momentum):
    def update(self, p, g, s, lr, t):
        return p - lr * g / (1 + np.abs(g).sum()), s


class Divided(Momentum):
    def update(self, p, g, s, lr, t):
        with np.errstate(all="ignore"):
            return p - lr * g / np.abs(g), s


class Amnesiac(Momentum):
    """Counts where `state` does not look."""

    calls = 0

    def update(self, p, g, s, lr, t):
        self.calls += 1
        return p - lr * g / self.calls, s


class WideState(Momentum):
    def init(self, p):
        return {"m": np.zeros(p.shape)}


class Aliased(Momentum):
    def state(self):
        return super().state() | {"rule.m": self._rule["m"]}


class Peaked(Momentum):
    def update(self, p, g, s, lr, t):
        return p - lr * g * (p / p.max()), s


WRONG_OPTIMIZERS = {
    "uphill": (Uphill, GradientError, "sign of update is wrong"),
    "normed": (Normed, GradientError, "must be elementwise"),
    "divided": (Divided, GradientError, "gradients of zeros"),
    "amnesiac": (Amnesiac, ConfigError, "keep what update needs in the state"),
    "wide state": (WideState, DtypeError, r"expected rule\.m in float32, got float64"),
    "aliased": (Aliased, ConfigError, "expected a copy"),
    "peaked": (Peaked, GradientError, "must be elementwise"),
}


def test_a_right_optimizer_passes():
    check_optimizer(Momentum)


@pytest.mark.parametrize(
    ("make", "error", "message"), WRONG_OPTIMIZERS.values(), ids=WRONG_OPTIMIZERS
)
def test_an_optimizer_that_breaks_a_promise_is_caught(make, error, message):
    with pytest.raises(error, match=message) as caught:
        check_optimizer(make)
    assert make.__name__ in str(caught.value)


def test_make_must_return_a_new_optimizer():
    same = Momentum()
    with pytest.raises(ConfigError, match=r"make\(\) to return a new optimizer"):
        check_optimizer(lambda: same)


OPTIMIZERS = {
    "SGD": lambda: optim.SGD(0.1),
    "SGD-all": lambda: optim.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": optim.Adam,
    "AdamW": optim.AdamW,
    "Lion": optim.Lion,
    "RMSprop": lambda: optim.RMSprop(momentum=0.9, centered=True),
    "scheduled": lambda: optim.Adam(optim.CosineAnnealing(0.1, 10)),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_optimizer_keeps_the_promises_of_an_optimizer(make):
    check_optimizer(make)


def test_every_optimizer_is_checked():
    rules = {
        name
        for name in optim.__all__
        if isinstance(getattr(optim, name), type)
        and issubclass(getattr(optim, name), optim.Optimizer)
    }
    made = {type(make()).__name__ for make in OPTIMIZERS.values()}
    assert rules - {"Optimizer"} == made
