"""A run that is killed or interrupted goes on to the bits of one that never was."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import DIGITS, as_json, command, environment, only_object, sillar

KILLING = Path(__file__).with_name("killing.py")
MOMENTS = {
    "before anything is written": ("sillar.cli.train", "write_record", 1),
    "while the record is written": ("os", "replace", 1),
    "before the first epoch": ("sillar.cli.train", "fit", 1),
    "within the first epoch": ("sillar.train.fit", "train_step", 8),
    "while the first checkpoint is written": ("os", "replace", 2),
    "within the second epoch": ("sillar.train.fit", "train_step", 22),
    "between the metrics and the checkpoint": (
        "sillar.train.checkpoint",
        "save_checkpoint",
        2,
    ),
    "while the last checkpoint is written": ("os", "replace", 4),
    "before the model is saved": ("sillar.cli.train", "save", 1),
    "while the model is saved": ("os", "replace", 5),
    "before the evaluation": ("sillar.cli.train", "measured", 1),
    "before the end is recorded": ("sillar.cli.train", "write_record", 2),
}


def model(run):
    return (run / "model.safetensors").read_bytes()


def log(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines
    ]


def assert_same(run, reference):
    assert model(reference) == model(run)
    assert log(reference) == log(run)
    records = [json.loads((r / "run.json").read_text()) for r in (run, reference)]
    for name in ("metrics", "data", "recipe", "reason"):
        assert records[0][name] == records[1][name], name
    assert not [p for p in run.rglob("*") if p.suffix == ".tmp"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_at_any_moment_goes_on_to_the_same_bits(
    moment, digits_run, tmp_path
):
    run = tmp_path / "run"
    arguments = map(str, ("train", *DIGITS, "--out", run))
    killed = subprocess.run(
        [sys.executable, KILLING, *map(str, MOMENTS[moment]), *arguments],
        capture_output=True,
        env=environment(),
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = ["train", "--resume", run]
    if not (run / "run.json").exists():  # nothing says what it was to be
        assert "holds no run" in sillar(*again, code=2).stderr
        again += DIGITS
    sillar(*again)
    assert_same(run, digits_run)


def test_a_run_killed_again_and_again_from_outside_ends_as_any_other(
    digits_run, tmp_path
):
    run = tmp_path / "run"
    start = ["train", *DIGITS, "--out", run]
    finished = 0
    for patience in (0.7, 0.9, 1.1, 1.3, 120):
        process = subprocess.Popen(
            command(*start), stderr=subprocess.PIPE, env=environment()
        )
        try:
            process.communicate(timeout=patience)
            finished += process.returncode == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        if (run / "run.json").exists():
            start = ["train", "--resume", run]
    assert finished
    assert_same(run, digits_run)


def test_ctrl_c_ends_in_order_and_says_how_to_go_on(digits_run, tmp_path):
    run = tmp_path / "a run"
    process = subprocess.Popen(
        command("train", *DIGITS, "--out", run, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    while not (run / "metrics.jsonl").exists() or not log(run):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert f"go on with: sillar train --resume '{run}'" in err
    assert "Traceback" not in err
    record = json.loads((run / "run.json").read_text())
    assert record["reason"].startswith("interrupted in epoch")
    assert record["metrics"] is None
    assert "no trained model yet" in sillar("evaluate", run, code=2).stderr
    sillar("train", "--resume", run)
    assert_same(run, digits_run)
    assert len(json.loads((run / "run.json").read_text())["resumed"]) == 1


def test_a_finished_run_is_only_reported(digits_run):
    before = (digits_run / "run.json").read_bytes()
    done = sillar("train", "--resume", digits_run, "--json")
    assert "finished already" in done.stderr
    record = json.loads(before)
    assert record["metrics"] == only_object(done.stdout)["metrics"]
    assert before == (digits_run / "run.json").read_bytes()


def test_a_finished_run_can_be_made_longer(moons_run, two_moons, tmp_path):
    run = shutil.copytree(moons_run, tmp_path / "run")
    sillar("train", "--resume", run, "--epochs", 8)
    sillar("train", two_moons / "csv.toml", "--epochs", 8, "--out", tmp_path / "new")
    assert model(tmp_path / "new") == model(run)
    assert len(log(run)) == 8


def test_what_early_stopping_ended_stays_ended(two_moons, tmp_path):
    options = [
        "--set",
        "data.validation=0.2",
        "--set",
        "optimizer.lr=0.5",
        "--epochs",
        60,
    ]
    options += ["--set", "training.early_stopping={patience=2}"]
    run = tmp_path / "run"
    sillar("train", two_moons / "csv.toml", *options, "--out", run)
    reason = json.loads((run / "run.json").read_text())["reason"]
    assert "val_loss has not improved for 2 epochs" in reason
    first = model(run)
    (run / "model.safetensors").unlink()
    sillar("train", "--resume", run)
    assert first == model(run)


REFUSED = {
    "other settings": (["--seed", 1], "training.seed was 0, now it is 1"),
    "other layers": (["--set", "model.layers.0.n_out=8"], "model.layers.0.n_out"),
    "fewer epochs": (["--epochs", 2], "can only grow"),
    "another recipe": (["digits"], "holds a run of 'csv', not of 'digits'"),
    "two directories": (["--out", "elsewhere"], "--out and --resume"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_run_goes_on_as_it_began_or_not_at_all(case, moons_run):
    before = (moons_run / "run.json").read_bytes()
    arguments, message = REFUSED[case]
    assert message in sillar("train", "--resume", moons_run, *arguments, code=2).stderr
    assert before == (moons_run / "run.json").read_bytes()


def test_a_run_does_not_go_on_with_other_data(two_moons, tmp_path):
    folder = shutil.copytree(two_moons, tmp_path / "moons")
    run = tmp_path / "run"
    sillar("train", folder / "csv.toml", "--out", run)
    (run / "model.safetensors").unlink()
    rows = (folder / "all.csv").read_text().splitlines()
    (folder / "all.csv").write_text("\n".join(rows[:-5]))
    assert "SHA-256 differs" in sillar("train", "--resume", run, code=2).stderr
    message = sillar("train", "--resume", run, "--data", tmp_path, code=2).stderr
    assert "nothing at this path" in message
    sillar("train", "--resume", run, "--data", two_moons)


BROKEN = {
    "no JSON": b"\xff\xfe{",
    "cut off": b'{"version": 1, "name": "x"',
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "another version": b'{"version": 2, "name": "x", "recipe": {}, "resumed": []}',
    "no recipe": b'{"version": 1, "name": "x", "resumed": []}',
    "empty recipe": b'{"version": 1, "name": "x", "recipe": {}, "resumed": []}',
    "empty": b"",
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_record_is_named(case, tmp_path, in_process):
    (tmp_path / "run.json").write_bytes(BROKEN[case])
    for arguments in (["train", "--resume"], ["inspect"]):
        assert in_process(*arguments, tmp_path, code=2)


def test_a_damaged_checkpoint_is_named(moons_run, tmp_path):
    run = shutil.copytree(moons_run, tmp_path / "run")
    (run / "model.safetensors").unlink()
    path = run / "checkpoint" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    assert "state.safetensors" in sillar("train", "--resume", run, code=2).stderr


def test_resuming_nothing_says_how_to_start(tmp_path):
    message = sillar("train", "--resume", tmp_path, code=2).stderr
    assert "sillar train RECIPE --out DIR" in message


def test_a_run_moves_with_its_directory(moons_run, tmp_path):
    run = shutil.copytree(moons_run, tmp_path / "moved")
    first, moved = (as_json("evaluate", r)["metrics"] for r in (moons_run, run))
    assert first == moved
