"""Samples follow the model's softmax, and nothing but the seed decides them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sillar as sl
from sillar import nn
from sillar.errors import ConfigError, DataError, ShapeError
from sillar.train.sample import choose


class Table(nn.Layer):
    """Logits that the last number alone decides: (batch, n) -> (batch, n, classes)."""

    def __init__(self, logits):
        self.weight = nn.Parameter(np.shape(logits), nn.initializers.zeros)
        self.init(sl.Rng(0), dtype="float64")
        self.weight.data[...] = logits

    def forward(self, x):
        return self.weight[x]


def draw(model, start=(0,), **options):
    return list(sl.sample(model, start, **{"length": 12, **options}))


def gpt(**options):
    model = nn.GPT(7, 8, blocks=1, heads=2, context=5, **options)
    return model.init(sl.Rng(3))


def recurrent(cell):
    model = nn.Sequential(nn.Embedding(7, 4), cell(4, 6), nn.Dense(6, 7))
    return model.init(sl.Rng(3))


def test_choice_has_the_shares_of_the_softmax():
    logits = np.log(np.array([0.1, 0.6, 0.3]))
    u = (np.arange(1000) + 0.5) / 1000
    for temperature, k in ((1.0, None), (0.5, None), (2.0, 2), (1.0, 1)):
        p = np.array([0.1, 0.6, 0.3]) ** (1 / temperature)
        p[np.argsort(-p)[k or 3 :]] = 0
        counts = np.bincount(
            [choose(logits, v, temperature, k) for v in u], minlength=3
        )
        np.testing.assert_allclose(counts / 1000, p / p.sum(), atol=2e-3)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([0.0, 1e-300, 1e-3, 1.0, 1e300]),
    st.none() | st.integers(1, 12),
)
def test_choice_is_a_class_for_any_logits(logits, u, temperature, top_k):
    chosen = choose(np.array(logits), u, temperature, top_k)
    assert 0 <= chosen < len(logits)
    if temperature == 0 or top_k == 1:
        assert int(np.argmax(logits)) == chosen


def test_draws_follow_the_last_number():
    cycle = np.full((4, 4), -np.inf)
    cycle[np.arange(4), [2, 3, 1, 0]] = 0.0
    model = Table(np.maximum(cycle, -1e9))
    assert draw(model, length=6) == [2, 1, 3, 0, 2, 1]
    assert draw(model, start=[1, 3], length=3, temperature=0) == [0, 2, 1]


def test_the_share_of_draws_is_that_of_the_model():
    p = np.array([0.05, 0.15, 0.8])
    found = draw(Table(np.log(np.tile(p, (3, 1)))), length=4000, context=1)
    np.testing.assert_allclose(np.bincount(found) / 4000, p, atol=0.02)


MODELS = {
    "GPT": gpt,
    "LSTM": lambda: recurrent(nn.LSTM),
    "GRU": lambda: recurrent(nn.GRU),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_seed_decides(name):
    model = MODELS[name]()
    first = draw(model, seed=5, context=5)
    assert first == draw(model, seed=5, context=5)
    assert first != draw(model, seed=6, context=5)
    assert first[:4] == draw(model, seed=5, context=5, length=4)
    assert len(first) == 12
    assert set(first) <= set(range(7))


@pytest.mark.parametrize("name", MODELS)
def test_greedy_takes_the_largest_of_what_the_context_shows(name):
    model = MODELS[name]()
    seen = [1, 2, 3]
    for token in draw(model, start=seen, temperature=0, context=4):
        logits = model(np.array([seen[-4:]])).numpy()
        assert int(logits[0, -1].argmax()) == token
        seen.append(token)


def test_drawing_is_inference_and_lazy():
    model = gpt(dropout=0.5)
    assert draw(model, context=5) == draw(model, context=5)
    endless = sl.sample(model, [0], length=10**7, context=5)
    assert 0 <= next(endless) < 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": -1}, "length must be an integer >= 0, got -1"),
        ({"temperature": -0.1}, r"temperature must be in \[0, inf\)"),
        ({"temperature": float("nan")}, r"temperature must be in \[0, inf\)"),
        ({"top_k": 0}, "top_k must be"),
        ({"context": 0}, "context must be"),
        ({"start": []}, "at least one number to start with"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_mistakes_show_before_the_first_draw(options, message):
    start = options.pop("start", [0])
    with pytest.raises(ConfigError, match=message):
        sl.sample(gpt(), start, **{"length": 3, **options})


def test_a_model_of_something_else_is_refused():
    last = nn.Sequential(nn.Embedding(7, 4), nn.LSTM(4, 6, last=True)).init(sl.Rng(0))
    with pytest.raises(ShapeError, match=r"expected logits \(1, 1, classes\)"):
        draw(last)
    broken = Table(np.full((3, 3), np.nan))
    with pytest.raises(DataError, match="gives NaN or infinity"):
        draw(broken)
