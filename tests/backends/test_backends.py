"""Every primitive, layer, loss and optimizer on every back end, as NumPy has it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from sillar.backends import base, load
from sillar.errors import BackendError, ConfigError, SillarError
from sillar.optim import Optimizer
from sillar.testing import check_backend
from sillar.testing.backends import checks
from sillar.testing.subjects import subjects

ROOT = Path(__file__).parent.parent.parent
BUILT = [n for n in base.OPTIONAL if importlib.util.find_spec(f"sillar.backends.{n}")]
INSTALLED = [n for n in BUILT if importlib.util.find_spec(n)]
CHECKS = {
    f"{name}-{what}": check
    for name in INSTALLED
    for what, check in checks(load(name)).items()
}
if "jax" in INSTALLED:
    # It compiles each operation: of layers, float64 and two cases of each shape save
    # minutes. `check_backend("jax")` does all.
    for what, check in checks(load("jax"), ["float64"], most=2).items():
        if not what.islower():
            CHECKS[f"jax-{what}"] = check


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_a_back_end_gives_numpys_numbers(check):
    check()


def test_every_back_end_is_tested():
    missing = sorted(set(BUILT) - set(INSTALLED))
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    assert INSTALLED == BUILT


def _is_ours(kind):
    """Other tests derive optimizers too."""
    return kind.__module__.startswith("sillar.") and not kind.__name__.startswith("_")


def test_nothing_is_left_out():
    names = {s.name for s in subjects()} - {"place"}
    found = set(checks(load("numpy")))
    hidden = {"recurrent_keep", "recurrent_slopes"}  # what only their back end reads
    assert names - hidden <= found
    rules = [kind for kind in Optimizer.__subclasses__() if _is_ours(kind)]
    assert {"Adam", "AdamW", "Lion", "RMSprop", "SGD"} <= found
    assert {kind.__name__ for kind in rules} <= found


@pytest.fixture
def toy(monkeypatch):
    """Return the toy back end of the guide, known to the library for one test."""
    monkeypatch.setattr(base, "_BACKENDS", dict(base._BACKENDS))
    monkeypatch.setattr(base, "_BY_TYPE", dict(base._BY_TYPE))
    page = (ROOT / "docs/guide/backends.md").read_text()
    blocks = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    (skeleton,) = [block for block in blocks if "class Toy" in block]
    scope = {}
    exec(skeleton, scope)
    return scope["Toy"]()


SOME = ("add", "getitem", "conv", "max_pool", "cross_entropy", "attention", "Dense")
SOME += ("BatchNorm", "Dropout", "LSTM", "Embedding", "CrossEntropy", "Adam", "SGD")
SOME += ("random_normal", "argmax", "scatter_add", "sum", "where", "einsum")


@pytest.mark.parametrize("name", SOME)
def test_the_guides_toy_keeps_the_promises(toy, name):
    base.register(toy)
    check_backend(toy, only=[name])


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("multiply", lambda a, b: a * b * 1.001, "the output: expected"),
        ("greater", lambda a, b: a < b, "expected Tensor"),
    ],
)
def test_a_wrong_function_is_found(toy, name, wrong, message):
    base.register(toy)
    vars(toy)[name] = wrong
    with pytest.raises(SillarError, match=f"(?s){message}.*in toy, {name}"):
        check_backend(toy, only=[name])


def test_an_output_that_left_the_back_end_is_found(toy):
    base.register(toy)
    vars(toy)["exp"] = lambda x: np.exp(np.asarray(x))
    with pytest.raises(BackendError, match="expected an output on toy, got ndarray"):
        check_backend(toy, only=["exp"])


def test_draws_that_ignore_the_key_are_found(toy):
    base.register(toy)
    vars(toy)["random_uniform"] = lambda key, shape, dtype: toy.from_numpy(
        np.random.default_rng(0).random(shape, "float32")
    )
    with pytest.raises(BackendError, match="others for other keys"):
        check_backend(toy, only=["random_uniform"])


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match=r"expected names .* got \['Danse'\]"):
        check_backend("numpy", only=["Danse"])
    with pytest.raises(ConfigError, match=r"expected some of .* got \['float16'\]"):
        check_backend("numpy", dtypes=["float16"])
    with pytest.raises(ConfigError, match="expected one of numpy, torch, jax"):
        check_backend("cupy")
