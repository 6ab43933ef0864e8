"""kill -9 and Ctrl-C, in real processes."""

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.data import Dataset
from sillar.files import read_arrays
from sillar.train.checkpoint import FILE
from tests.train.killed_run import main
from tests.train.kit import bits, blobs, logged, net, train

PYTHON = [sys.executable, "-W", "error", "-c"]
RUN = [sys.executable, "-W", "error", "-m", "tests.train.killed_run"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Return the directory of a run that nobody killed."""
    directory = tmp_path_factory.mktemp("whole")
    main(directory)
    return directory


def assert_same(expected, directory):
    whole = (expected / "model.safetensors").read_bytes()
    assert whole == (directory / "model.safetensors").read_bytes()
    assert logged(expected) == logged(directory)
    (arrays, _), (others, _) = (read_arrays(d / FILE) for d in (expected, directory))
    plain, other = (json.loads(a.pop("json").tobytes()) for a in (arrays, others))
    for run in (plain["run"], other["run"]):
        for row in (*run["history"], run["metrics"]):
            del row["seconds"]
    assert plain == other
    assert bits(arrays) == bits(others)


def run(directory, *moment):
    command = [*RUN, str(directory), *map(str, moment)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode


def started(command):
    """Return a process that has said it is ready."""
    pipe = subprocess.PIPE
    child = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    assert child.stdout.readline() == "ready\n"
    return child


KILLS = {
    "before the first batch": [("on_start", 1), ("on_start", 1)],
    "before the first checkpoint": [("on_step", 3), ("flush", 1)],
    "in the middle of epochs": [("on_step", 7), ("on_step", 4), ("on_step", 8)],
    "between epochs": [("on_epoch_end", 1), ("on_epoch_end", 2)],
    "while a checkpoint is written": [("write", 1), ("write", 30), ("write", 75)],
    "before it takes its place, and after": [("flush", n) for n in (5, 4, 7, 2)],
}


@pytest.mark.parametrize("moments", KILLS.values(), ids=KILLS)
def test_a_killed_run_resumes_to_the_same_bits(moments, expected, tmp_path):
    for moment in moments:
        assert run(tmp_path, *moment) == -signal.SIGKILL
    assert run(tmp_path) == 0
    assert_same(expected, tmp_path)


def test_a_run_killed_at_any_time_resumes_to_the_same_bits(expected, tmp_path):
    """The killer knows nothing of the run: it waits, and kills."""
    rng, kills = random.Random(), 0
    while True:
        child = started([*RUN, str(tmp_path)])
        if kills < 6:
            time.sleep(rng.uniform(0, 0.06))
            child.kill()
        assert child.communicate() == ("", "")
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
        kills += 1
    assert_same(expected, tmp_path)


# Ctrl-C


@pytest.fixture(autouse=True)
def usual_handler():
    """Handle Ctrl-C as usual, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


ENDLESS = """
import json, sys
import numpy as np
import sillar as sl
from tests.train.kit import Do, bits, blobs, net, train

def get_worse(run):
    run.metrics["val_loss"] = float(run.epoch)
    if run.epoch == 1:
        best.update(bits(run.model))
    if run.epoch == 3:
        print("ready", flush=True)

best, model = {}, net()
run = train(
    model, blobs(800), epochs=10**9, run_dir=sys.argv[1],
    callbacks=[Do(on_epoch_end=get_worse), sl.EarlyStopping(patience=10**9)],
)
whole = run.optimizer.updates == run.step
print(json.dumps([run.reason, run.epoch, whole, bits(model) == best]))
"""


def test_ctrl_c_ends_the_run_in_order(tmp_path):
    child = started([*PYTHON, ENDLESS, str(tmp_path)])
    time.sleep(random.uniform(0, 0.1))
    child.send_signal(signal.SIGINT)
    out, err = child.communicate()
    reason, epoch, whole, best = json.loads(out)
    assert (err, child.returncode) == ("", 0)
    assert reason.startswith("interrupted in epoch")
    assert epoch >= 3
    assert whole
    assert best
    assert len(logged(tmp_path)) == epoch


HANGING = """
import time
from tests.train.kit import Do, bits, net, train
import sillar as sl

def hang(run):
    if run.epoch == 2:
        print("ready", flush=True)
        time.sleep(60)

best, model = {}, net()
keep = Do(on_epoch_end=lambda run: best.update(bits(run.model)), on_step=hang)
stopping = sl.EarlyStopping("step", mode="max")
try:
    train(model, epochs=9, callbacks=[keep, stopping])
finally:
    print(bits(model) == best)
"""


def test_a_second_ctrl_c_ends_it_at_once():
    child = started([*PYTHON, HANGING])
    child.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert child.poll() is None
    start = time.perf_counter()
    child.send_signal(signal.SIGINT)
    out, err = child.communicate()
    assert time.perf_counter() - start < 10
    assert out == "True\n"
    assert err.endswith("KeyboardInterrupt\n")


class Interrupted(sl.SGD):
    """Get a Ctrl-C in the middle of an update."""

    def update(self, p, g, s, lr, t):
        if self.updates == 4 and len(p) < 32_768:  # the last block of the vector
            signal.raise_signal(signal.SIGINT)
        return super().update(p, g, s, lr, t)


def test_ctrl_c_does_not_cut_an_update_in_two():
    data = Dataset(np.ones((64, 200), "f4"), np.arange(64) % 250)
    models = [nn.Sequential(nn.Dense(200, 250)) for _ in range(2)]
    run = train(models[0], data, optimizer=Interrupted(0.1))
    assert (run.step, run.reason) == (5, "interrupted in epoch 1")
    stop = sl.every(steps=5)(type("Stop", (sl.Callback,), {"on_step": end})())
    train(models[1], data, optimizer=sl.SGD(0.1), callbacks=[stop])
    assert bits(models[0]) == bits(models[1])


def end(self, run):
    run.stop = True


def test_the_usual_handler_is_back_after_the_run():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    train(net())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_users_own_is_left_alone():
    def own(*_):
        caught.append(True)

    def interrupt(self, run):
        signal.raise_signal(signal.SIGINT)

    caught = []
    before = signal.signal(signal.SIGINT, own)
    try:
        callback = type("Interrupt", (sl.Callback,), {"on_epoch_end": interrupt})()
        run = train(net(), blobs(8), callbacks=[callback], epochs=3)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (len(caught), run.epoch, run.reason) == (3, 3, "")
