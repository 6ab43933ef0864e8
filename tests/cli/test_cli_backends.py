"""The command line on other array libraries, from the same seed."""

import importlib.util
import json
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from command_line import as_json, environment, sillar

import sillar as sl
from sillar.backends import OPTIONAL, load
from sillar.cli.plan import make_plan
from sillar.cli.recipe import changed, checked, read_recipe
from sillar.testing.backends import draws_of_the_host

INSTALLED = [
    n
    for n in OPTIONAL
    if importlib.util.find_spec(f"sillar.backends.{n}") and importlib.util.find_spec(n)
]
DIGITS = ("digits", "--epochs", 4)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a run of each back end, by name."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for name in ("numpy", *INSTALLED):
        out = folder / name
        found[name] = out, as_json("train", *DIGITS, "--backend", name, "--out", out)
    return found


@pytest.mark.parametrize("name", INSTALLED)
def test_a_recipe_reaches_the_same_from_the_same_seed(runs, name):
    (numpy, expected), (other, got) = runs["numpy"], runs[name]
    gap = abs(expected["metrics"]["accuracy"] - got["metrics"]["accuracy"])
    assert gap <= 0.003  # one of the 360 images of the test part
    lines = [(d / "metrics.jsonl").read_text().splitlines() for d in (numpy, other)]
    for a, b in zip(*(map(json.loads, part) for part in lines), strict=True):
        far = 1e-3 if name == "torch" else 0.1  # others draw masks of their own
        assert a["loss"] == pytest.approx(b["loss"], abs=far)
    record = json.loads((other / "run.json").read_text())
    assert record["recipe"]["training"]["backend"] == name
    assert (record["backend"]["name"], record["backend"]["device"]) == (name, "cpu")
    assert record["backend"]["version"]


class Curve(sl.Callback):
    """The mean loss so far after each of the first 20 steps."""

    def __init__(self):
        self.losses = []

    def on_step(self, run):
        self.losses.append(run.sums["loss"] / run.sums["examples"])
        if run.step == 20:
            run.end("enough")


@pytest.mark.parametrize("name", INSTALLED)
def test_a_recipe_starts_with_the_same_curve(name):
    curves = []
    sl.set_exact_convolution(True)
    try:
        for backend in ("numpy", name):
            _, tables = read_recipe("digits")
            changes = [("training.backend", backend), ("training.epochs", 3)]
            plan, curve = make_plan(checked(changed(tables, changes))), Curve()
            options = plan.arguments | {"callbacks": [curve], "validation": None}
            host = nullcontext()
            if backend not in ("numpy", "torch"):  # whose devices draw other masks
                host, options["compiled"] = draws_of_the_host(load(backend)), False
            parts = plan.model, plan.loss, plan.optimizer, plan.parts.train
            with host:
                sl.fit(*parts, **options)
            curves.append(curve.losses)
    finally:
        sl.set_exact_convolution(False)
    assert len(curves[0]) == 20
    np.testing.assert_allclose(*curves, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", INSTALLED)
def test_files_are_used_across_back_ends(runs, name, tmp_path):
    for trained, used in ((name, "numpy"), ("numpy", name)):
        run, kept = runs[trained]
        found = as_json("evaluate", run, "--backend", used)
        accuracy = kept["metrics"]["accuracy"]
        assert found["metrics"]["accuracy"] == pytest.approx(accuracy, abs=0.003)
    np.save(tmp_path / "x.npy", sl.data.digits().x[:5])
    answers = [
        as_json("predict", runs[name][0], tmp_path / "x.npy", "--backend", used)
        for used in ("numpy", name)
    ]
    classes = [[row["class"] for row in a["predictions"]] for a in answers]
    assert classes[0] == classes[1]


@pytest.mark.parametrize("name", INSTALLED)
def test_the_doctor_says_versions_and_devices(name):
    state = as_json("doctor")["backends"][name]
    assert state.startswith(f"ready, {name} ")
    assert ", on cpu" in state


WITHOUT = """
import sys
sys.modules[{name!r}] = None
from sillar.backends import load
from sillar.cli.doctor import backend_state
from sillar.errors import DependencyError
print(backend_state({name!r}))
try:
    load({name!r})
except DependencyError as error:
    print(error)
"""


@pytest.mark.parametrize("name", INSTALLED)
def test_what_is_missing_says_how_to_get_it(name):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(name=name)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=True,
    )
    state, error = done.stdout.splitlines()
    assert state == f"missing: pip install 'sillar[{name}]'"
    assert error == (
        f"the back end '{name}' needs the package {name}: pip install 'sillar[{name}]'"
    )


@pytest.mark.parametrize("name", INSTALLED)
def test_a_device_that_is_not_there_is_refused_before_a_run(name, tmp_path):
    out = tmp_path / "run"
    done = sillar(
        *("train", *DIGITS, "--backend", name, "--device", "moon", "--out", out), code=2
    )
    assert "moon" in done.stderr
    assert not out.exists()
