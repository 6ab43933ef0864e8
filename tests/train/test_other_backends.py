"""Training on other array libraries: the same curves, files and checkpoints."""

import importlib.util

import numpy as np
import pytest

import sillar as sl
from sillar import nn, optim
from sillar.backends import backend_of, base
from sillar.errors import BackendError, ConfigError

BACKENDS = [
    n
    for n in base.OPTIONAL
    if importlib.util.find_spec(f"sillar.backends.{n}") and importlib.util.find_spec(n)
]
pytestmark = pytest.mark.parametrize("backend", BACKENDS)
TRAIN, TEST = sl.data.digits().split(test=0.2, seed=0)


class Curve(sl.Callback):
    """The loss after each step."""

    def __init__(self):
        self.losses = []

    def on_step(self, run):
        self.losses.append(run.sums["loss"] / run.sums["examples"])


def network():
    model = nn.Sequential(
        *(nn.Conv2D(1, 8, kernel=3), nn.BatchNorm(8), nn.ReLU(), nn.MaxPool2D(2)),
        *(nn.Flatten(), nn.Dense(72, 10)),
    )
    return model.init(sl.Rng(0).split("weights"))


def trained(backend, optimizer, *, epochs=3, **options):
    curve, model = Curve(), network()
    if backend != "numpy":
        model.to(backend)
    run = sl.fit(
        *(model, sl.CrossEntropy(), optimizer, TRAIN),
        **{"epochs": epochs, "callbacks": [curve], **options},
    )
    return np.array(curve.losses), model, run


RUNS = {
    "adam": (lambda: sl.Adam(lr=3e-3), {}),
    "sgd": (lambda: sl.SGD(lr=0.05, momentum=0.9), {}),
    "eager": (lambda: sl.Adam(lr=3e-3), {"compiled": False}),
    "clipped": (lambda: sl.SGD(lr=0.05), {"transforms": [optim.ClipNorm(0.5)]}),
    "accumulated": (lambda: sl.SGD(lr=0.05), {"transforms": [optim.Accumulate(2)]}),
    "skipping": (lambda: sl.SGD(lr=0.05), {"transforms": [optim.SkipNonFinite()]}),
    "values": (lambda: sl.SGD(lr=0.05), {"transforms": [optim.ClipValue(0.01)]}),
    "decayed": (lambda: optim.AdamW(lr=3e-3), {"penalty": optim.L2(1e-3)}),
    "sparse": (lambda: sl.SGD(lr=0.05), {"penalty": optim.L1(1e-3)}),
}


@pytest.mark.parametrize(("optimizer", "options"), RUNS.values(), ids=RUNS)
def test_curves_are_numpys_over_100_steps(backend, optimizer, options):
    expected, _, _ = trained("numpy", optimizer(), **options)
    got, model, run = trained(backend, optimizer(), **options)
    assert len(expected) >= 100
    np.testing.assert_allclose(expected[:100], got[:100], rtol=0, atol=1e-4)
    assert backend_of(model[0].weight.data).name == backend
    assert backend_of(model.parameters().vector).name == backend
    if "compiled" not in options:
        assert run.gradients.eager_because == ""


def test_files_load_on_any_back_end(backend, tmp_path):
    _, model, _ = trained(backend, sl.Adam(), epochs=1)
    sl.save(model, tmp_path / "m.safetensors")
    there = sl.load(tmp_path / "m.safetensors")
    assert type(there[0].weight.data) is np.ndarray
    expected = sl.predict(model, TEST.x)
    np.testing.assert_allclose(expected, sl.predict(there, TEST.x), atol=1e-4)
    back = sl.load(tmp_path / "m.safetensors").to(backend)
    assert backend_of(next(iter(back.buffers().values())).data).name == backend
    np.testing.assert_array_equal(expected, sl.predict(back, TEST.x))


def test_a_run_resumes_to_the_same_bits(backend, tmp_path):
    _, whole, _ = trained(backend, sl.Adam(), epochs=2)
    trained(backend, sl.Adam(), epochs=1, run_dir=tmp_path)
    _, resumed, run = trained(
        backend, sl.Adam(), epochs=2, run_dir=tmp_path, resume=True
    )
    assert run.epoch == 2
    for name, array in whole.state().items():
        np.testing.assert_array_equal(array, resumed.state()[name], name)


def test_a_run_of_numpy_goes_on_elsewhere(backend, tmp_path):
    whole, _, _ = trained("numpy", sl.Adam(), epochs=2)
    trained("numpy", sl.Adam(), epochs=1, run_dir=tmp_path)
    rest, model, _ = trained(
        backend, sl.Adam(), epochs=2, run_dir=tmp_path, resume=True
    )
    assert backend_of(model[0].weight.data).name == backend
    np.testing.assert_allclose(whole[-len(rest) :], rest, rtol=0, atol=1e-4)


def test_early_stopping_brings_the_best_weights_back(backend):
    _, model, run = trained(
        backend,
        sl.Adam(lr=0.03),
        epochs=6,
        validation=0.2,
        callbacks=[sl.EarlyStopping("val_loss", patience=1)],
    )
    assert backend_of(model[0].weight.data).name == backend
    assert run.history


def test_models_move_there_and_back(backend):
    model = network()
    before = {name: array.copy() for name, array in model.state().items()}
    moved = model.to(backend, "cpu")
    assert moved is model
    for name, array in model.to("numpy").state().items():
        np.testing.assert_array_equal(before[name], array, strict=True)
    assert type(model.parameters().vector) is np.ndarray


def test_moving_says_what_is_missing(backend):
    with pytest.raises(ConfigError, match=r"call model.init"):
        nn.Dense(2, 2).to(backend)
    with pytest.raises(ConfigError, match="expected one of numpy, torch, jax"):
        network().to("cupy")
    with pytest.raises(BackendError, match="moon"):
        network().to(backend, "moon")
