"""`sillar train --workers`: worker processes below a real command line."""

import json

import pytest
from command_line import as_json, sillar


def test_workers_train_the_same_model(two_moons, moons_run, tmp_path):
    run = tmp_path / "run"
    sillar("train", two_moons / "csv.toml", "--workers", 2, "--out", run)
    names = ("model.safetensors", "run.json")
    expected, got = ([(d / n).read_bytes() for n in names] for d in (moons_run, run))
    assert expected[0] == got[0]
    metrics = [json.loads(text[1])["metrics"] for text in (expected, got)]
    assert metrics[0] == metrics[1]


def test_a_run_goes_on_with_another_number_of_workers(two_moons, tmp_path):
    run, recipe = tmp_path / "run", two_moons / "csv.toml"
    sillar("train", recipe, "--epochs", 2, "--out", run)
    done = as_json("train", "--resume", run, "--epochs", 3, "--workers", 1)
    whole = as_json("train", recipe, "--epochs", 3, "--out", tmp_path / "whole")
    assert whole["metrics"] == done["metrics"]


def test_workers_are_a_number(two_moons, in_process):
    message = in_process("train", two_moons / "csv.toml", "--workers", -1, code=2)
    assert "workers must be an integer >= 0, got -1" in message


AUGMENT = 'data.augment=[{type="Rotation", degrees=10.0}, {type="Shift", pixels=1}]'


def test_a_recipe_augments_and_workers_change_no_bit(tmp_path):
    found = []
    for workers in (0, 2):
        run = tmp_path / str(workers)
        options = ("--epochs", 1, "--set", "data.test=0.8", "--set", AUGMENT)
        sillar("train", "digits", *options, "--workers", workers, "--out", run)
        found.append((run / "model.safetensors").read_bytes())
    assert found[0] == found[1]
    record = json.loads((run / "run.json").read_text())
    assert record["recipe"]["data"]["augment"][1] == {"type": "Shift", "pixels": 1}


MISTAKES = {
    'data.augment=[{type="Blur"}]': "data.augment.0: unknown type 'Blur'; known are",
    'data.augment="Flip"': "augment must be a list of tables, got 'Flip'",
    'data.augment=[{type="Flip", p=3.0}]': "data.augment.0: Flip: p must be a number",
    'data.augment=[{type="Crop", padding=9}]': "padding must be below the 8 by 8",
}


@pytest.mark.parametrize("change", MISTAKES)
def test_mistakes_in_augment_show_before_a_run_begins(change, in_process):
    message = in_process("train", "digits", "--set", change, code=2)
    assert MISTAKES[change] in message
