"""Every recipe of the package has one curve of loss, whatever back end computes it."""

import importlib.util
from contextlib import nullcontext

import numpy as np
import pytest

import sillar as sl
from sillar.backends import OPTIONAL, load
from sillar.cli.plan import make_plan
from sillar.cli.recipe import built_in, changed, checked, read_recipe
from sillar.testing.backends import draws_of_the_host

STEPS = 100
INSTALLED = [
    n
    for n in OPTIONAL
    if importlib.util.find_spec(f"sillar.backends.{n}") and importlib.util.find_spec(n)
]
NAMES = {"data.folder": "names", "data.path": "names.txt"}
TEXT = {"data.folder": "tiny-shakespeare", "data.path": "train.txt"}
RECIPES = {  # where the data of each lies, and smaller batches where steps are long
    "digits": {"training.epochs": 3},
    "intrusion": {"data.folder": "nsl-kdd"},
    "mnist": {"data.folder": "mnist", "training.batch_size": 16},
    "names-gru": NAMES,
    "names-lstm": NAMES,
    "one-cycle": {"data.folder": "mnist", "training.batch_size": 16},
    "regression": {"data.target": "kind", "training.epochs": 6},
    "table": {"data.target": "kind", "training.epochs": 6},
    "text": {**TEXT, "training.batch_size": 2},
}


class Curve(sl.Callback):
    """The loss of each step."""

    def __init__(self):
        self.losses, self.before = [], (0.0, 0)

    def on_step(self, run):
        now = run.sums["loss"], run.sums["examples"]
        old = self.before if run.batch > 1 else (0.0, 0)
        self.losses.append((now[0] - old[0]) / (now[1] - old[1]))
        self.before = now
        if run.step == STEPS:
            run.end("enough")


@pytest.fixture
def folders(request, tmp_path):
    """Return where a recipe's data lies, by the recipe's name."""

    def find(name):
        changes = dict(RECIPES[name])
        if name in ("table", "regression"):
            rng = np.random.default_rng(0)
            rows = ["size,colour,kind"]
            for size, colour in rng.normal(size=(2000, 2)):
                kind = "ab"[int(size + colour > 1)] if name == "table" else size
                rows.append(f"{size:.4f},{'red' if colour > 0 else 'blue'},{kind}")
            (tmp_path / "rows.csv").write_text("\n".join(rows))
            changes["data.folder"] = str(tmp_path / "rows.csv")
        elif "data.folder" in changes:
            shared = request.getfixturevalue("shared_data")
            changes["data.folder"] = str(shared / changes["data.folder"])
        return changes

    return find


def curve(name, changes, backend, precision):
    _, tables = read_recipe(name)
    given = changes | {"training.backend": backend, "training.precision": precision}
    plan, found = make_plan(checked(changed(tables, list(given.items())))), Curve()
    options = plan.arguments | {"callbacks": [found], "validation": None}
    host = nullcontext()
    if backend not in ("numpy", "torch"):  # whose devices draw masks of their own
        host, options["compiled"] = draws_of_the_host(load(backend)), False
    with host:
        sl.fit(plan.model, plan.loss, plan.optimizer, plan.parts.train, **options)
    return np.array(found.losses)


def test_no_recipe_is_left_out():
    assert set(built_in()) == set(RECIPES)


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize("name", RECIPES)
def test_a_curve_is_numpys_over_100_steps_in_float64(name, backend, folders):
    changes = folders(name)
    expected = curve(name, changes, "numpy", "float64")
    got = curve(name, changes, backend, "float64")
    assert len(expected) == STEPS
    np.testing.assert_allclose(expected, got, rtol=0, atol=1e-9)


@pytest.mark.parametrize("backend", INSTALLED)
def test_mnist_is_learned_to_the_same_accuracy(backend, shared_data):
    accuracy = {}
    for where in ("numpy", backend):
        _, tables = read_recipe("one-cycle")
        changes = {
            **{"data.folder": str(shared_data / "mnist"), "data.validation": 0.7},
            **{"training.epochs": 1, "training.backend": where},
        }
        plan = make_plan(checked(changed(tables, list(changes.items()))))
        options = plan.arguments | {"callbacks": [], "validation": None}
        sl.fit(plan.model, plan.loss, plan.optimizer, plan.parts.train, **options)
        outputs = sl.predict(plan.model, plan.parts.test.x)
        accuracy[where] = (outputs.argmax(-1) == plan.parts.test.y).mean()
    assert accuracy["numpy"] > 0.97
    assert abs(accuracy["numpy"] - accuracy[backend]) <= 0.001, accuracy


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize("name", ["intrusion", "names-gru", "names-lstm", "table"])
def test_networks_without_convolution_keep_it_in_float32(name, backend, folders):
    changes = folders(name)
    expected = curve(name, changes, "numpy", "float32")
    got = curve(name, changes, backend, "float32")
    np.testing.assert_allclose(expected, got, rtol=0, atol=1e-4)
