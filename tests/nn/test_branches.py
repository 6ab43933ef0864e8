"""Parallel and ReconstructionError against a few lines of NumPy, and in files."""

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.errors import ConfigError, ShapeError

X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")


def novelty():
    """Return a classifier beside an autoencoder, and what weighs them."""
    return nn.Sequential(
        nn.Parallel(
            nn.Sequential(nn.Dense(3, 4), nn.ReLU(), nn.Dense(4, 2)),
            nn.ReconstructionError(nn.Dense(3, 2), nn.Tanh(), nn.Dense(2, 3)),
        ),
        nn.Dense(3, 2),
    ).init(sl.Rng(0))


def test_outputs_stand_side_by_side():
    a, b = nn.Dense(3, 2).init(sl.Rng(0)), nn.Dense(3, 1).init(sl.Rng(1))
    both = nn.Parallel(a, b)
    expected = np.concatenate([a(X).numpy(), b(X).numpy()], axis=-1)
    np.testing.assert_array_equal(expected, both(X).numpy(), strict=True)
    with pytest.raises(ConfigError, match="at least one layer"):
        nn.Parallel()
    with pytest.raises(ConfigError, match="Parallel: expected layers, got 3"):
        nn.Parallel(3)


def test_parallel_outputs_must_agree_on_the_other_axes():
    both = nn.Parallel(nn.Flatten(), nn.Tanh())
    with pytest.raises(ShapeError):
        both(np.zeros((2, 3, 4)))


def test_the_error_is_the_logarithm_of_the_mean_square():
    layer = nn.ReconstructionError(nn.Dense(3, 3)).init(sl.Rng(0), "float64")
    x = X.astype("float64")
    weight, bias = layer.state().values()
    expected = np.log(
        np.mean((x @ weight + bias - x) ** 2, axis=-1, keepdims=True) + 1e-6
    )
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-12)


def test_what_comes_back_whole_has_a_finite_error():
    assert nn.ReconstructionError()(X).numpy() == pytest.approx(np.log(1e-6))


def test_a_file_gives_the_same_detector_back(tmp_path):
    model = novelty()
    sl.save(model, tmp_path / "model.safetensors")
    again = sl.load(tmp_path / "model.safetensors")
    assert repr(again) == repr(model)
    assert sl.predict(again, X).tobytes() == sl.predict(model, X).tobytes()
