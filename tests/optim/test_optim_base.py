"""What the base class promises for every rule: blocks, dtypes, states, errors."""

import numpy as np
import pytest

from sillar import optim
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, DtypeError, ShapeError
from sillar.optim import (
    SGD,
    Accumulate,
    Adam,
    AdamW,
    ClipNorm,
    CosineAnnealing,
    Lion,
    Optimizer,
    RMSprop,
    Schedule,
    SkipNonFinite,
)
from sillar.optim.optimizer import BLOCK

MAKERS = {
    "sgd": lambda lr: SGD(lr),
    "decayed": lambda lr: SGD(lr, weight_decay=0.1),
    "momentum": lambda lr: SGD(lr, momentum=0.9),
    "nesterov": lambda lr: SGD(lr, momentum=0.9, nesterov=True),
    "rmsprop": lambda lr: RMSprop(lr),
    "rmsprop-all": lambda lr: RMSprop(
        lr, momentum=0.9, centered=True, weight_decay=0.1
    ),
    "adam": lambda lr: Adam(lr),
    "adamw": lambda lr: AdamW(lr),
    "lion": lambda lr: Lion(lr, weight_decay=0.1),
}
every_rule = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def draws(count, size, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=size).astype(dtype) for _ in range(count)]


@every_rule
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 7]
)
def test_blocks_equal_the_whole_vector_to_the_bit(parameters, make, dtype, size):
    p, *gradients = draws(4, size, dtype)
    optimizer = make(1e-2).bind(parameters(dtype, p=p))
    rule = make(1e-2)
    s = rule.init(p)
    for t, g in enumerate(gradients, start=1):
        p, s = rule.update(p, g, s, 1e-2, t)
        assert optimizer.step(g)
    np.testing.assert_array_equal(p, optimizer.params.vector, strict=True)
    for name, array in s.items():
        saved = optimizer.state()[f"rule.{name}"]
        np.testing.assert_array_equal(array, saved, strict=True)


@every_rule
def test_float32_stays_float32_with_any_kind_of_number(parameters, make):
    class Wide(Schedule):
        def __call__(self, step):
            return np.float64(0.01)

    for lr in (0.01, np.float64(0.01), Wide()):
        optimizer = make(lr).bind(parameters("float32", p=[1.0, 2.0]))
        p, g = draws(2, 2, "float32")
        new, state = optimizer.update(p, g, optimizer.init(p), optimizer.rate, 1)
        assert {new.dtype.name, *(a.dtype.name for a in state.values())} == {"float32"}
        optimizer.step(g)
        arrays = [a for k, a in optimizer.state().items() if k != "updates"]
        assert {a.dtype.name for a in arrays} <= {"float32"}
        assert optimizer.params.vector.dtype == np.float32


def test_numpy_hyperparameters_do_not_widen_float32(parameters):
    wide = np.float64(0.5)
    for optimizer in (
        SGD(wide, momentum=wide, weight_decay=wide),
        RMSprop(wide, alpha=wide, eps=wide, momentum=wide, weight_decay=wide),
        Adam(wide, beta1=wide, beta2=wide, eps=wide),
        AdamW(wide, beta1=wide, beta2=wide, eps=wide, weight_decay=wide),
        Lion(wide, beta1=wide, beta2=wide, weight_decay=wide),
    ):
        p, g = draws(2, 3, "float32")
        new, state = optimizer.update(p, g, optimizer.init(p), optimizer.rate, 1)
        assert {new.dtype.name, *(a.dtype.name for a in state.values())} == {"float32"}


@every_rule
def test_resuming_goes_on_to_the_same_bits(parameters, make):
    gradients = draws(12, 50)
    gradients[5][3] = np.nan

    def bound(p):
        transforms = [SkipNonFinite(), Accumulate(3), ClipNorm(1.0)]
        schedule = CosineAnnealing(0.1, 4)
        return make(schedule).bind(parameters(p=p), transforms=transforms)

    straight = bound(np.ones(50))
    held = [straight.step(g) for g in gradients]
    assert held.count(True) == 3  # one of twelve is bad, so two wait at the end
    first = bound(np.ones(50))
    for g in gradients[:7]:
        first.step(g)
    second = bound(first.params.vector)
    second.load_state(first.state())
    for g in gradients[7:]:
        second.step(g)
    np.testing.assert_array_equal(straight.params.vector, second.params.vector)
    expected, actual = straight.state(), second.state()
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(value, actual[name], strict=True)


def test_state_is_a_copy_and_survives_numbers_as_arrays(parameters):
    optimizer = Adam().bind(parameters(p=[1.0]), transforms=[SkipNonFinite()])
    optimizer.step(np.ones(1))
    state = optimizer.state()
    assert list(state) == ["updates", "rule.m", "rule.v", "transforms.0.skipped"]
    before = state["rule.m"].copy()
    optimizer.step(np.ones(1))
    np.testing.assert_array_equal(before, state["rule.m"])
    optimizer.load_state({name: np.asarray(value) for name, value in state.items()})
    assert optimizer.updates == 1
    optimizer.step(np.ones(1))
    np.testing.assert_array_equal(before, state["rule.m"])  # loading copies as well


def test_binding_again_starts_afresh(parameters):
    optimizer = Adam().bind(parameters(p=[1.0]))
    optimizer.step(np.ones(1))
    optimizer.bind(parameters(p=[1.0, 2.0]))
    assert optimizer.updates == 0
    np.testing.assert_array_equal(np.zeros(2), optimizer.state()["rule.m"])


def test_gradients_come_as_mapping_sequence_or_vector(parameters):
    a, b = np.ones((2, 2)), np.arange(3.0)
    flat = np.concatenate([a.ravel(), b])
    for grads in (
        {"b": Tensor(b), "a": Tensor(a)},
        [Tensor(a), Tensor(b)],
        (a, b),
        flat,
        Tensor(flat),
    ):
        params = parameters(a=np.zeros((2, 2)), b=np.zeros(3))
        optimizer = SGD(1.0).bind(params)
        assert optimizer.step(grads) is True
        np.testing.assert_array_equal(-flat, params.vector)
        np.testing.assert_array_equal(-a, params["a"].numpy())  # a view of the vector


def test_no_parameters_at_all(parameters):
    optimizer = Adam().bind(parameters(), transforms=[ClipNorm(1.0), SkipNonFinite()])
    assert optimizer.step([])
    assert optimizer.updates == 1


def test_a_held_step_changes_nothing(parameters):
    optimizer = Adam(CosineAnnealing(0.1, 10)).bind(
        parameters(p=[1.0]), transforms=[SkipNonFinite()]
    )
    optimizer.step(np.ones(1))
    before, p = optimizer.state(), optimizer.params.vector.copy()
    assert optimizer.step(np.array([np.nan])) is False
    after = optimizer.state()
    assert before.pop("transforms.0.skipped") == 0
    assert after.pop("transforms.0.skipped") == 1
    assert before == after
    np.testing.assert_array_equal(p, optimizer.params.vector)


def test_the_schedule_counts_applied_updates(parameters):
    class Steps(Schedule):
        def __init__(self):
            self.seen = []

        def __call__(self, step):
            self.seen.append(step)
            return 0.1

    schedule = Steps()
    optimizer = SGD(schedule).bind(parameters(p=[1.0]), transforms=[Accumulate(2)])
    for _ in range(6):
        optimizer.step(np.ones(1))
    assert schedule.seen == [0, 1, 2]
    assert optimizer.updates == 3


def test_transforms_run_in_order(parameters):
    optimizer = SGD(1.0).bind(
        parameters(p=[0.0]), transforms=[ClipNorm(1.0), Accumulate(2)]
    )
    assert [optimizer.step(np.array([g])) for g in (10.0, -0.5)] == [False, True]
    np.testing.assert_allclose(optimizer.params.vector, [-(1.0 - 0.5) / 2])


def test_repr_shows_the_arguments():
    assert repr(SGD(0.1)) == (
        "SGD(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)"
    )
    assert repr(Adam(optim.Constant(1e-3))).startswith("Adam(lr=Constant(lr=0.001), ")


RANGES = [
    # call, its message
    (lambda: SGD(-0.1), "SGD: lr must be in [0, inf), got -0.1"),
    (lambda: SGD(float("nan")), "SGD: lr must be in [0, inf), got nan"),
    (lambda: SGD(float("inf")), "SGD: lr must be in [0, inf), got inf"),
    (lambda: SGD("0.1"), "SGD: lr must be in [0, inf), got '0.1'"),
    (lambda: SGD(None), "SGD: lr must be in [0, inf), got None"),
    (lambda: SGD(0.1, momentum=1.0), "SGD: momentum must be in [0, 1), got 1.0"),
    (
        lambda: SGD(0.1, weight_decay=-1),
        "SGD: weight_decay must be in [0, inf), got -1",
    ),
    (
        lambda: SGD(0.1, nesterov=True),
        "SGD: nesterov=True needs momentum in (0, 1), got momentum=0.0",
    ),
    (lambda: RMSprop(-1), "RMSprop: lr must be in [0, inf), got -1"),
    (lambda: RMSprop(alpha=1), "RMSprop: alpha must be in [0, 1), got 1"),
    (lambda: RMSprop(eps=0.0), "RMSprop: eps must be in (0, inf), got 0.0"),
    (lambda: RMSprop(momentum=-0.1), "RMSprop: momentum must be in [0, 1), got -0.1"),
    (
        lambda: RMSprop(weight_decay=float("nan")),
        "RMSprop: weight_decay must be in [0, inf), got nan",
    ),
    (lambda: Adam(-1), "Adam: lr must be in [0, inf), got -1"),
    (lambda: Adam(beta1=1.2), "Adam: beta1 must be in [0, 1), got 1.2"),
    (lambda: Adam(beta2=float("nan")), "Adam: beta2 must be in [0, 1), got nan"),
    (lambda: Adam(eps=-1e-8), "Adam: eps must be in (0, inf), got -1e-08"),
    (lambda: AdamW(-1), "AdamW: lr must be in [0, inf), got -1"),
    (lambda: AdamW(beta1=-1), "AdamW: beta1 must be in [0, 1), got -1"),
    (lambda: AdamW(beta2=1), "AdamW: beta2 must be in [0, 1), got 1"),
    (lambda: AdamW(eps=0), "AdamW: eps must be in (0, inf), got 0"),
    (
        lambda: AdamW(weight_decay=-0.1),
        "AdamW: weight_decay must be in [0, inf), got -0.1",
    ),
    (lambda: Lion(-1), "Lion: lr must be in [0, inf), got -1"),
    (lambda: Lion(beta1=1), "Lion: beta1 must be in [0, 1), got 1"),
    (lambda: Lion(beta2=-0.1), "Lion: beta2 must be in [0, 1), got -0.1"),
    (
        lambda: Lion(weight_decay=float("inf")),
        "Lion: weight_decay must be in [0, inf), got inf",
    ),
]


@pytest.mark.parametrize(("call", "message"), RANGES, ids=[m for _, m in RANGES])
def test_numbers_out_of_range(call, message):
    with pytest.raises(ConfigError) as caught:
        call()
    assert message == str(caught.value)


UNBOUND = (
    "Adam: expected parameters to work on, got none yet: call"
    " Adam.bind(model.parameters()) first"
)


@pytest.mark.parametrize(
    "call",
    [
        lambda o: o.step([]),
        lambda o: o.params,
        lambda o: o.state(),
        lambda o: o.load_state({}),
    ],
    ids=["step", "params", "state", "load_state"],
)
def test_unbound_optimizer(call):
    with pytest.raises(ConfigError) as caught:
        call(Adam())
    assert str(caught.value) == UNBOUND


def test_bind_wants_parameters_and_transforms(parameters):
    with pytest.raises(ConfigError) as caught:
        Adam().bind({"p": np.ones(1)})
    assert str(caught.value) == (
        "Adam.bind: expected Parameters, got dict: give model.parameters()"
    )
    for wrong in (ClipNorm(1.0), [abs]):
        with pytest.raises(ConfigError) as caught:
            Adam().bind(parameters(p=[1.0]), transforms=wrong)
        assert str(caught.value) == (
            f"Adam.bind: expected a list of transforms, got {wrong!r}: write"
            " transforms=[ClipNorm(1.0)]"
        )


def test_gradient_of_wrong_shape_or_dtype(parameters):
    optimizer = SGD(0.1).bind(parameters("float32", p=np.ones(3)))
    wrongs = [(np.ones(2), "(2,)"), (np.ones((3, 1)), "(3, 1)"), (None, "NoneType")]
    for wrong, got in wrongs:
        with pytest.raises(ShapeError) as caught:
            optimizer.step(wrong)
        assert str(caught.value) == (
            "SGD.step: the gradient: expected a vector of shape (3,), as the parameters"
            f" have, got {got}"
        )
    with pytest.raises(DtypeError) as caught:
        optimizer.step(np.ones(3))
    assert str(caught.value) == (
        "SGD.step: the gradient: expected float32, as the parameters have, got float64:"
        " convert it with .astype('float32')"
    )
    with pytest.raises(ShapeError, match="pack"):
        optimizer.step([np.ones(2)])


def test_transform_of_wrong_shape_or_dtype(parameters):
    class Half(optim.Transform):
        def __call__(self, g):
            return g[: len(g) // 2]

        def __repr__(self):
            return "Half()"

    optimizer = SGD(0.1).bind(parameters(p=np.ones(2)), transforms=[Half()])
    with pytest.raises(ShapeError) as caught:
        optimizer.step(np.ones(2))
    assert str(caught.value) == (
        "SGD.step: the result of Half(): expected a vector of shape (2,), as the"
        " parameters have, got (1,)"
    )


def test_a_schedule_that_leaves_its_range(parameters):
    class Wrong(Schedule):
        def __call__(self, step):
            return float("nan")

    optimizer = SGD(Wrong()).bind(parameters(p=[1.0]))
    with pytest.raises(ConfigError) as caught:
        optimizer.step(np.ones(1))
    assert str(caught.value) == "SGD: lr at step 0 must be in [0, inf), got nan"
    np.testing.assert_array_equal([1.0], optimizer.params.vector)


ADVICE = ": load a state that was saved with the same rule and the same transforms"
BROKEN = [
    # change to a good state, error, start of its message
    (
        lambda s: s.pop("rule.v"),
        ConfigError,
        "Adam.load_state: expected the entries ['rule.m', 'rule.v', 'updates']; missing"
        " ['rule.v'], unknown []" + ADVICE,
    ),
    (
        lambda s: s.update(extra=1),
        ConfigError,
        "Adam.load_state: expected the entries ['rule.m', 'rule.v', 'updates']; missing"
        " [], unknown ['extra']" + ADVICE,
    ),
    (
        lambda s: s.update({"transforms.1.skipped": 1}),
        ConfigError,
        "Adam.load_state: expected the entries ['rule.m', 'rule.v', 'updates']; missing"
        " [], unknown ['transforms.1.skipped']" + ADVICE,
    ),
    (
        lambda s: s.pop("transforms.0.skipped"),
        ConfigError,
        "SkipNonFinite.load_state: expected the entries ['skipped']; missing"
        " ['skipped'], unknown []" + ADVICE,
    ),
    (
        lambda s: s.update({"rule.m": np.ones(5)}),
        ShapeError,
        "Adam.load_state: rule.m: expected a vector of shape (2,), as the parameters"
        " have, got (5,)",
    ),
    (
        lambda s: s.update({"rule.v": np.ones(2, "float32")}),
        DtypeError,
        "Adam.load_state: rule.v: expected float64, as the parameters have, got"
        " float32: convert it with .astype('float64')",
    ),
    (
        lambda s: s.update(updates=-1),
        ConfigError,
        "Adam.load_state: updates must be an integer >= 0, got -1",
    ),
    (
        lambda s: s.update(updates=1.5),
        ConfigError,
        "Adam.load_state: updates must be an integer >= 0, got 1.5",
    ),
]


@pytest.mark.parametrize(("change", "error", "message"), BROKEN)
def test_broken_states_are_refused_and_change_nothing(
    parameters, change, error, message
):
    optimizer = Adam().bind(parameters(p=[1.0, 2.0]), transforms=[SkipNonFinite()])
    optimizer.step(np.ones(2))
    good = optimizer.state()
    broken = {k: v * 2 for k, v in good.items()}
    change(broken)
    with pytest.raises(error) as caught:
        optimizer.load_state(broken)
    assert message == str(caught.value)
    for name, value in optimizer.state().items():
        np.testing.assert_array_equal(good[name], value)


def test_optimizer_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Optimizer(0.1)


def test_exported_names_exist():
    assert len(optim.__all__) == len(set(optim.__all__))
    assert all(hasattr(optim, name) for name in optim.__all__)
