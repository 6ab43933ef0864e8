"""What listens at the waist, on arrays that are not NumPy's."""

import math

import numpy as np
import pytest

import sillar as sl
from sillar import nn, watch
from sillar.errors import NonFiniteError

pytest.importorskip("torch")
DATA = sl.data.digits()[:8]


@pytest.fixture
def model():
    layers = nn.Conv2D(1, 4, kernel=3), nn.BatchNorm(4), nn.ReLU(), nn.Flatten()
    model = nn.Sequential(*layers, nn.Dropout(0.5), nn.Dense(144, 10))
    return model.init(sl.Rng(0)).to("torch")


def gradients(model):
    loss = sl.CrossEntropy()(model(DATA.x, rng=sl.Rng(1)), DATA.y)
    return sl.grad(loss, model.parameters())


def test_profile_counts_what_it_counts_on_numpy(model):
    with watch.profile(model) as there:
        gradients(model)
    model.to("numpy")
    with watch.profile(model) as here:
        gradients(model)
    assert "conv" in str(there)
    assert "conv" in str(here)


def test_diagnose_says_what_it_says_on_numpy(model):
    kept = {name: array.copy() for name, array in model.state().items()}
    there = watch.diagnose(model, (DATA.x, DATA.y))
    for name, array in model.state().items():
        np.testing.assert_array_equal(kept[name], array)
    here = watch.diagnose(model.to("numpy"), (DATA.x, DATA.y))
    assert len(here.rows) == len(there.rows)
    for a, b in zip(here.rows, there.rows, strict=True):
        assert a[0] == b[0]
        for x, y in zip(a, b, strict=True):
            if isinstance(x, float) and not math.isnan(x):
                assert x == pytest.approx(y, rel=1e-3, abs=1e-6)


def test_the_first_nan_is_found(model, tmp_path):
    weight = model.parameters()["layers.5.weight"]
    weight.data[0, 0] = math.inf
    path = tmp_path / "first.npz"
    with (
        pytest.raises(NonFiniteError, match=r"parameter layers.5.weight"),
        watch.find_nonfinite(model, path=path),
    ):
        gradients(model)
