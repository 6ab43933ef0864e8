"""Processes that do parts of a step: what they see, how they fail, how they end."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.backends.numpy import parts, team, threads
from sillar.core.compile import compile
from sillar.errors import BackendError

N = 12

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork")


@pytest.fixture(autouse=True)
def two(monkeypatch):
    """Cut every step in two, however small."""
    monkeypatch.setattr(parts, "WORTH", 0)
    monkeypatch.setattr(threads._settings, "count", 2)
    monkeypatch.setattr(threads._settings, "processes", True)


def children(process="self"):
    """Return the numbers of a process's children."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return {int(n) for task in tasks for n in task.read_text().split()}


def wait_until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def started(monkeypatch):
    """Return a compiled step, an argument and the children that came with it."""
    born, original = set(), team._Member.__init__

    def noted(self, *parts):
        original(self, *parts)
        born.add(self.number)

    monkeypatch.setattr(team._Member, "__init__", noted)
    compiled = compile(lambda x: sl.tanh(x) * 2.0)
    x = np.ones((N, 3), "float32")
    compiled(x)
    compiled(x)
    return compiled, x, born


def test_a_child_for_each_part_but_the_first(started):
    assert len(started[2]) == 1
    assert started[2] <= children()


def test_children_end_with_the_plan(started):
    compiled, _, born = started
    compiled._plans.clear()
    gc.collect()
    assert not born & children()


PROGRAM = """
import sys, time
import numpy as np, sillar as sl
from sillar.backends.numpy import parts
parts.WORTH = 0
sl.set_threads(3)
compiled = sl.compile(lambda x: sl.tanh(x) * 2.0)
for _ in range(3):
    compiled(np.ones((12, 3), "float32"))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_children_end_with_their_parent(killed):
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(
        [sys.executable, "-Werror", "-c", PROGRAM], **pipes
    ) as parent:
        assert parent.stdout.readline() == b"ready\n"
        born = children(parent.pid)
        assert len(born) == 2
        if killed:
            parent.kill()
        _, errors = parent.communicate(timeout=30)
        assert (parent.returncode, errors) == (-signal.SIGKILL if killed else 0, b"")
        wait_until(lambda: not any(Path(f"/proc/{n}").exists() for n in born))


def test_a_child_that_is_killed_is_told_and_nothing_hangs(started):
    compiled, x, born = started
    os.kill(*born, signal.SIGKILL)
    with pytest.raises(BackendError, match="is gone, as when memory is short"):
        compiled(x)


def test_a_stopped_child_does_not_keep_a_program_from_ending(started):
    compiled, _, born = started
    os.kill(*born, signal.SIGSTOP)
    compiled._plans.clear()
    gc.collect()
    assert not born & children()


def test_weights_that_were_written_between_replays_are_seen():
    model = nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dense(4, 2)).init(sl.Rng(0))
    compiled = compile(lambda x: model(x))
    x = np.random.default_rng(0).normal(size=(N, 3)).astype("float32")
    compiled(x)
    for seed in range(3):
        vector = model.parameters().vector
        vector[:] = np.random.default_rng(seed).normal(size=vector.shape)
        expected = model(sl.Tensor(x)).numpy()
        np.testing.assert_allclose(compiled(x).numpy(), expected, rtol=2e-5, atol=1e-6)


def test_weights_that_a_step_moves_half_way_are_seen():
    """Two updates in one step: the second gradient is that of the moved weights."""
    results = []
    for make in (compile, lambda step: step):
        model = nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dense(4, 2))
        model.init(sl.Rng(0))
        parameters = model.parameters()
        optimizer = sl.SGD(0.5).bind(parameters)

        def step(x, model=model, parameters=parameters, optimizer=optimizer):
            losses = []
            for _ in range(2):
                losses.append((model(x) ** 2).mean())
                optimizer.step(sl.grad(losses[-1], parameters))
            return losses

        run = make(step)
        x = sl.Tensor(np.random.default_rng(0).normal(size=(N, 3)).astype("float32"))
        losses = [float(loss) for _ in range(4) for loss in run(x)]
        results.append((losses, parameters.vector.copy()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)


def test_an_interrupted_stage_leaves_the_step_in_order(started, monkeypatch):
    compiled, x, _ = started
    expected = compiled(x).numpy()
    original = team._take

    def interrupted(turn, look):
        monkeypatch.setattr(team, "_take", original)
        raise KeyboardInterrupt

    monkeypatch.setattr(team, "_take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compiled(x)
    for _ in range(3):
        assert np.array_equal(expected, compiled(x).numpy())


def test_constants_of_any_layout_are_mirrored():
    base = np.arange(24.0).reshape(2, 3, 4)
    odd = [
        base,
        base.T,
        base[:, ::-1],
        base[1, :, 2],
        np.asfortranarray(base[0]),
        np.broadcast_to(base[0, 0], (3, 4)),
        np.float32(3.0) * np.ones(()),
        np.zeros((0, 3)),
        np.arange(10_000)[::1000],
        np.array([True, False]),
    ]
    mirror = team.Mirror(odd)
    views = [mirror.view(array) for array in odd]
    for k in range(2):
        base += k
        mirror.refresh()
        for array, view in zip(odd, views, strict=True):
            assert view.dtype == array.dtype
            assert np.array_equal(view, array)
            assert not np.shares_memory(view, array)
    assert views[1].strides == odd[1].strides


def test_threads_do_the_parts_if_that_is_wanted(monkeypatch):
    made = []
    monkeypatch.setattr(team.Team, "__init__", lambda *parts: made.append(parts))
    count = threads.threads()
    sl.set_threads(2, processes=False)
    compiled = compile(lambda x: sl.tanh(x) * 2.0)
    x = np.ones((N, 3), "float32")
    assert np.array_equal(compiled(x).numpy(), compiled(x).numpy())
    assert not made
    sl.set_threads(count)


MEMORY = """
from pathlib import Path
import numpy as np
import sillar as sl
from sillar.backends.numpy import parts, scratch, threads

def resident(process):
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))

parts.WORTH = 0
sl.set_threads(2)
before = resident("self")
scratch.take("a kernel's", (10_000_000,), np.float32)[:] = 1  # 40 MB
again = scratch.take("a kernel's", (10_000_000,), np.float32)
assert again[0] == 1
del again
freed = [np.ones(1 << 20, np.float32) for _ in range(10)]  # 42 MB
kept = [np.ones(1, np.float32) for _ in range(10)]  # above them
del freed
compiled = sl.compile(lambda x: sl.tanh(x) * 2.0)
compiled(np.ones((12, 3), "float32"))
tasks = Path("/proc/self/task").glob("*/children")
(child,) = "".join(task.read_text() for task in tasks).split()
print(resident("self") - before, resident(child) - before)
"""


def test_children_get_no_pages_that_are_free():
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    ours, theirs = map(int, done.stdout.split())
    assert ours < 20_000
    assert theirs < 20_000
