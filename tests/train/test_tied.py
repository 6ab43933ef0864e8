"""Models with tied weights: trained, saved, loaded and resumed as what they are."""

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.errors import FormatError
from sillar.files import read_header
from tests.train.kit import CrashError, bits, blobs, crash_at, train


def tied():
    """Return a model whose second layer has the first one's weight."""
    model = nn.Sequential(nn.Dense(4, 4), nn.Tanh(), nn.Dense(4, 4), nn.Dense(4, 3))
    model[2].weight = model[0].weight
    return model


def test_training_moves_the_one_weight_and_keeps_it_one():
    model = tied()
    before = model.init(sl.Rng(0)).parameters().vector.copy()
    run = train(model, epochs=4)
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert model[2].weight is model[0].weight
    assert model.parameters().vector.shape == before.shape
    assert (model.parameters().vector != before).all()


@pytest.mark.parametrize("compiled", [True, False])
def test_a_step_by_sgd_goes_along_the_sum_of_both_gradients(compiled):
    model = tied().init(sl.Rng(0), "float64")
    data = blobs(8, dtype="float64")
    apart = nn.Sequential(*(nn.Dense(4, 4) for _ in range(2)), nn.Dense(4, 3))
    apart = nn.Sequential(apart[0], nn.Tanh(), apart[1], apart[2])
    apart.init(sl.Rng(0), "float64")
    state = model.state()
    apart.load_state(state | {"layers.2.weight": state["layers.0.weight"]})
    slopes = sl.grad(sl.CrossEntropy()(apart(data.x), data.y), apart.parameters())
    expected = (
        state["layers.0.weight"]
        - 0.5 * (slopes["layers.0.weight"] + slopes["layers.2.weight"]).numpy()
    )
    train(
        model,
        data,
        optimizer=sl.SGD(0.5),
        epochs=1,
        compiled=compiled,
    )
    np.testing.assert_allclose(expected, model[2].weight.numpy(), atol=1e-12)


def test_a_file_holds_the_weight_once_and_ties_it_again(tmp_path):
    path = tmp_path / "tied.safetensors"
    model = tied()
    train(model)
    sl.save(model, path)
    assert "layers.2.weight" not in read_header(path).entries
    loaded = sl.load(path)
    assert loaded[2].weight is loaded[0].weight
    assert bits(loaded) == bits(model)
    train(loaded)
    assert loaded[2].weight is loaded[0].weight


def test_a_file_of_a_tied_model_does_not_fill_another(tmp_path):
    path = tmp_path / "tied.safetensors"
    sl.save(tied().init(sl.Rng(0)), path)
    apart = nn.Sequential(
        nn.Dense(4, 4), nn.Tanh(), nn.Dense(4, 4), nn.Dense(4, 3)
    ).init(sl.Rng(0))
    with pytest.raises(FormatError, match=r"missing \['layers.2.weight'\]"):
        sl.load(path, apart)
    sl.save(apart, path)
    with pytest.raises(FormatError, match=r"unexpected \['layers.2.weight'\]"):
        sl.load(path, tied())


def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path):
    whole = tied()
    train(whole, epochs=4)
    cut = tied()
    with pytest.raises(CrashError):
        train(cut, epochs=4, run_dir=tmp_path, callbacks=[crash_at(20)])
    again = tied()
    train(again, epochs=4, run_dir=tmp_path, resume=True)
    assert again[2].weight is again[0].weight
    assert bits(again) == bits(whole)
