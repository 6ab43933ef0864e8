"""Ranks over MPI: real `mpiexec`, real faults; N of them train what one trains."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'sillar[mpi]'")

PROGRAM = Path(__file__).with_name("mpi_program.py")
ROOT = Path(__file__).parents[2]
SCRIPTS = sysconfig.get_path("scripts")
MPIEXEC = shutil.which("mpiexec", path=f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}")
ENVIRONMENT = os.environ | {
    **{"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
    **{"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"},
}


def started(ranks, command, **options):
    """Run a command on so many ranks; return the finished process and its seconds."""
    line = [MPIEXEC, "-n", str(ranks), sys.executable, *command]
    start = time.monotonic()
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=120, env=ENVIRONMENT, **options
    )
    return done, time.monotonic() - start


def trained(count, out, **given):
    """Return the weights and what the first rank says; 0 is without MPI."""
    given["out"] = str(out / f"{time.monotonic_ns()}.npz")
    if count:
        done, _ = started(count, [str(PROGRAM), json.dumps(given)])
    else:
        line = [sys.executable, str(PROGRAM), json.dumps(given | {"alone": True})]
        done = subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    with np.load(given["out"]) as file:
        weights = dict(file)
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return weights, json.loads(said)


def apart(a, b):
    """Return the largest difference of two sets of weights, relative above 1."""
    return max(
        float((np.abs(a[name] - b[name]) / np.maximum(1, np.abs(a[name]))).max())
        for name in a
    )


def same_bits(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


# 403 rows in batches of 32: the last of an epoch has 19 (5, 5, 5, 4), so shares differ.
LONG = {"epochs": 9, "validation": 0.1}  # 108 steps


@pytest.mark.parametrize("model", ["dense", "dropout", "norm"])
def test_ranks_train_what_one_process_trains(model, tmp_path):
    alone, said = trained(0, tmp_path, model=model, **LONG)
    for ranks in (1, 2, 3, 4):
        weights, told = trained(ranks, tmp_path, model=model, **LONG)
        assert apart(alone, weights) < 1e-6, ranks
        for ours, theirs in zip(told["history"], said["history"], strict=True):
            for name in ("accuracy", "val_accuracy", "step", "lr"):
                assert ours[name] == theirs[name], (ranks, name)
            for name in ("loss", "val_loss"):
                assert ours[name] == pytest.approx(theirs[name], rel=1e-5), (
                    ranks,
                    name,
                )
    assert said["steps"] == told["steps"] == 108


@pytest.mark.parametrize("model", ["dense", "dropout", "norm"])
def test_in_float64_only_the_last_bits_differ(model, tmp_path):
    given = {"model": model, "dtype": "float64", "precision": "float64"}
    alone, _ = trained(0, tmp_path, **given)
    assert apart(alone, trained(3, tmp_path, **given)[0]) < 1e-13


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fixed_number_of_parts_gives_the_same_bits_on_any_number_of_ranks(
    dtype, tmp_path
):
    given = {"model": "dropout", "dtype": dtype, "ranks": {"parts": 4}, **LONG}
    given["precision"] = dtype
    one, two, four = (trained(n, tmp_path, **given)[0] for n in (1, 2, 4))
    assert same_bits(one, two)
    assert same_bits(one, four)


@pytest.mark.parametrize("loss", ["sum", "weighted", "ignoring", "focal"])
def test_a_loss_counts_its_elements_over_all_ranks(loss, tmp_path):
    given = {"loss": loss, "dtype": "float64", "precision": "float64"}
    given["model"] = "dense" if loss == "focal" else "norm"
    if loss == "sum":
        given |= {"batch_size": 4, "rows": 41, "epochs": 1}
    alone, said = trained(0, tmp_path, **given)
    weights, told = trained(3, tmp_path, **given)
    assert apart(alone, weights) < 1e-12
    assert told["history"][-1]["loss"] == pytest.approx(said["history"][-1]["loss"])


@pytest.mark.parametrize("transforms", ["accumulate", "clip"])
def test_transforms_see_the_gradient_of_the_whole_batch(transforms, tmp_path):
    alone, _ = trained(0, tmp_path, transforms=transforms)
    assert apart(alone, trained(2, tmp_path, transforms=transforms)[0]) < 1e-6


@pytest.mark.parametrize("model", ["dense", "norm"])
def test_ranks_without_a_row_take_part(model, tmp_path):
    """66 rows in batches of 16 leave two for four ranks; of 3 there is one too few."""
    for sizes in ({"rows": 66, "batch_size": 16}, {"rows": 20, "batch_size": 3}):
        given = {"model": model, "dtype": "float64", "precision": "float64", **sizes}
        alone, _ = trained(0, tmp_path, **given)
        assert apart(alone, trained(4, tmp_path, **given)[0]) < 1e-9


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_arrays_of_other_libraries_go_through_host_memory(backend, tmp_path):
    pytest.importorskip(backend)
    for model in ("dense", "norm"):
        given = {"model": model, "epochs": 1, "rows": 100, "backend": backend}
        alone, _ = trained(0, tmp_path, **given)
        assert apart(alone, trained(2, tmp_path, **given)[0]) < 1e-6


def test_weights_begin_as_those_of_the_first_rank(tmp_path):
    alone, _ = trained(0, tmp_path)
    assert apart(alone, trained(3, tmp_path, drawn=True)[0]) < 1e-6


@pytest.mark.parametrize("wire", ["float16", "bfloat16"])
def test_half_precision_on_the_wire_halves_it_and_learns_as_well(wire, tmp_path):
    given = {"epochs": 8, "validation": 0.1}
    _, whole = trained(2, tmp_path, **given)
    _, half = trained(2, tmp_path, ranks={"compress": wire}, **given)
    assert half["bytes"] == pytest.approx(whole["bytes"] / 2, rel=0.01)
    ours, theirs = (found["history"][-1] for found in (half, whole))
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.02)
    assert ours["val_accuracy"] == pytest.approx(theirs["val_accuracy"], abs=0.05)


def test_what_rounding_takes_away_is_sent_later(tmp_path):
    """1.0001 is 1 in half precision; the sums of 100 vectors are right all the same."""
    code = """
import json, sys
import numpy as np
from sillar.distributed.mpi import Ranks
ranks = Ranks(compress=sys.argv[1])
vector = np.full(7, 1.0001, np.float32)
sums = [ranks.sum([vector * (1 + ranks.rank)], [0.5]) for _ in range(100)]
whole = np.sum(sums, axis=0) + ranks.sum.state()
if ranks.rank == 0:
    print(json.dumps([np.mean(sums, axis=0).tolist(), whole.tolist()]))
"""
    for wire in ("float16", "bfloat16"):
        done, _ = started(3, ["-c", code, wire])
        mean, whole = json.loads(done.stdout)
        exact = np.full(7, 1.0001 * 3)  # (1 + 2 + 3) / 2
        np.testing.assert_allclose(mean, exact, rtol=4e-4 if wire[0] == "b" else 4e-5)
        np.testing.assert_allclose(whole, 100 * exact, rtol=1e-5)


def test_one_ranks_trains_several_models_and_keeps_nothing_of_the_last():
    code = """
import numpy as np, sillar as sl
from sillar import nn
from sillar.distributed.mpi import Ranks
ranks, ends = Ranks(compress="float16"), []
for width in (10, 4, 10):
    model = nn.Sequential(nn.Flatten(), nn.Dense(64, width), nn.Dense(width, 10))
    data = sl.data.digits()[:200]
    run = sl.fit(
        model, sl.CrossEntropy(), sl.SGD(0.1), data, epochs=2, callbacks=(), ranks=ranks
    )
    ends.append(model.parameters().vector.copy())
if ranks.rank == 0:
    print(np.array_equal(ends[0], ends[2]))
"""
    done, _ = started(2, ["-c", code])
    assert done.stdout == "True\n", done.stderr


def test_only_the_first_rank_writes_and_speaks(tmp_path):
    given = {"run_dir": str(tmp_path / "run"), "out": str(tmp_path / "w.npz")}
    given["progress"] = True
    done, _ = started(3, [str(PROGRAM), json.dumps(given)])
    assert done.returncode == 0
    assert done.stderr.count("epoch 1/2") == 1
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


FAULTS = {
    "kill": "SIGKILL",
    "segfault": "died",
    "leave": "left",
    "fail": "ValueError: a fault that was put there",
    "stop": "waited for it",
    "sleep": "waited for it",
}


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_ends_all_with_one_message_and_the_checkpoint_goes_on(
    what, rank, tmp_path
):
    """On three ranks; the run then goes on, on two, as if nothing had happened."""
    run = {"run_dir": str(tmp_path / "run"), "ranks": {"timeout": 3}, "epochs": 4}
    given = run | {"fault": [what, rank, 30], "out": str(tmp_path / "never.npz")}
    done, seconds = started(3, [str(PROGRAM), json.dumps(given)])
    assert done.returncode != 0
    assert seconds < 30
    said = [line for line in done.stderr.splitlines() if line.startswith("sillar: ")]
    assert len(said) == 1, done.stderr
    assert f"rank {rank} of 3" in said[0]
    assert FAULTS[what] in done.stderr
    until = time.monotonic() + 5
    while ours(given["out"]) and time.monotonic() < until:
        time.sleep(0.1)
    assert not ours(given["out"])
    weights, told = trained(2, tmp_path, resume=True, **run)
    whole, _ = trained(2, tmp_path, epochs=4)
    assert told["steps"] == 4 * 13
    assert apart(weights, whole) < 1e-6


def test_a_rank_that_hangs_is_given_up_within_half_a_minute(tmp_path):
    given = {"fault": ["sleep", 1, 3], "out": str(tmp_path / "never.npz")}
    done, seconds = started(2, [str(PROGRAM), json.dumps(given)])
    assert "rank 1 of 2" in done.stderr
    assert 20 < seconds < 30


def ours(text):
    """Return the numbers of processes whose command line holds this text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("what", ["end", "interrupt"])
def test_a_run_that_one_rank_ends_ends_on_all(what, tmp_path):
    _, told = trained(3, tmp_path, fault=[what, 1, 5])
    assert told["steps"] == 5
    assert (
        "interrupted" in told["reason"]
        if what == "interrupt"
        else "rank 1" in (told["reason"])
    )


def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(tmp_path):
    for wire in (None, "float16"):
        run = {"ranks": {"parts": 2, "compress": wire}, "model": "dropout"}
        whole, _ = trained(2, tmp_path, epochs=4, **run)
        run["run_dir"] = str(tmp_path / f"{wire}")
        trained(2, tmp_path, epochs=2, **run)
        rest, _ = trained(2, tmp_path, epochs=4, resume=True, **run)
        if wire is None:
            assert same_bits(whole, rest)
        else:  # what was left over is that of all ranks together
            assert apart(whole, rest) < 1e-4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"other": 1}, "the run's data is .* on rank 1"),
        ({"fault": ["weights", 1, 3]}, "the sum of the weights' bits"),
        ({"ranks": {"parts": 3}}, "parts must be a multiple of the 2 ranks"),
        ({"ranks": {"parts": 4}, "model": "norm"}, "batch normalisation needs all"),
        ({"model": "own"}, "Centred.* lets examples of a batch depend on each other"),
        ({"ranks": {"compress": "int8"}}, "compress must be 'float16'"),
        ({"ranks": {"timeout": 0}}, "timeout"),
    ],
)
def test_what_cannot_be_is_said_clearly(given, message, tmp_path):
    import re

    given["out"] = str(tmp_path / "w.npz")
    done, _ = started(2, [str(PROGRAM), json.dumps(given)])
    assert done.returncode != 0
    assert re.search(message, done.stderr), done.stderr


def test_the_command_trains_on_ranks_and_keeps_one_record(tmp_path):
    command = ["-m", "sillar", "train", "digits", "--epochs", "2", "--json"]
    done, _ = started(3, [*command, "--out", "shared"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    line = [sys.executable, *command, "--out", "alone"]
    alone = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
    found, expected = (json.loads(d.stdout)["metrics"] for d in (done, alone))
    assert found["accuracy"] == pytest.approx(expected["accuracy"], abs=0.01)
    record = json.loads((tmp_path / "shared" / "run.json").read_text())
    assert record["ended"]
    assert record["recipe"]["training"]["ranks"] == {}


def test_strangers_do_not_disturb_the_watch(tmp_path):
    """Whoever finds the port of the first guard, and sends what he likes."""
    code = """
import json, socket, subprocess, sys, time
from pathlib import Path
from sillar.distributed.mpi import Ranks
ranks = Ranks()
with ranks.together():
    if ranks.rank == 0:
        guard = ranks.watch.guard.pid
        inodes = {str(p.readlink())[8:-1] for p in Path(f"/proc/{guard}/fd").iterdir()}
        rows = [line.split() for line in open("/proc/net/tcp")][1:]
        ports = [int(r[1][-4:], 16) for r in rows if r[3] == "0A" and r[9] in inodes]
        lines = [b"5", b"{", b"[" * 99999, b'{"token": 1}', b"x" * 300000]
        lines += [b'{"token": "\\u00e9"}', b'{"token": "\\ud800"}']
        for sent in (line + bytes([10]) for line in lines):
            with socket.create_connection(("127.0.0.1", ports[0])) as stranger:
                try:
                    stranger.sendall(sent)
                except OSError:
                    pass
        time.sleep(1)
    ranks.everywhere([1])
print("whole")
"""
    done, _ = started(2, ["-c", code])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("whole") == 2


def test_a_mistake_in_a_command_is_said_once(tmp_path):
    done, _ = started(3, ["-m", "sillar", "train", "digitz"], cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("there is no recipe 'digitz'") == 1
    wrong = ["--set", "training.ranks.compress=half"]
    done, _ = started(3, ["-m", "sillar", "train", "digits", *wrong], cwd=tmp_path)
    assert done.stderr.count("is not TOML") == 1
