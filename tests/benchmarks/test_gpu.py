"""The benchmark for GPUs: it runs to its end without one, whoever cannot take part."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import gpu, in_sillar
from benchmarks.gpu_child import CONTESTANTS
from benchmarks.workloads import ALL, GPTS, WORKLOADS
from sillar.backends import OPTIONAL

ROOT = Path(__file__).parents[2]

for library in ("jax", "matplotlib", "torch"):
    if find_spec(library) is None:
        pytest.skip(f"needs {library}: make bench installs it", allow_module_level=True)


@pytest.fixture(scope="module")
def smoke():
    command = [sys.executable, "-m", "benchmarks.gpu", "--smoke", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]), done.stdout


def test_the_smoke_run_goes_to_the_end_on_a_cpu(smoke):
    found, said = smoke
    own = {f"sillar {name}" for name in (*OPTIONAL, "numpy")} | {"sillar eager"}
    assert {name for name in CONTESTANTS if name.startswith("sillar")} >= own
    assert not {who for who in found["missing"] if "jax" not in who}
    assert set(found["rows"]) == set(gpu.TINY)
    for name, row in found["rows"].items():
        expected = set(CONTESTANTS) - set(found["missing"])
        if name != "small":
            expected -= {"torch.compile", "sillar numpy"}
        assert set(row) == expected
        for contestant, measured in row.items():
            assert isinstance(measured, dict), (name, contestant, measured)
            assert measured["milliseconds"][0] > 0
        assert gpu.distance(name, row) <= gpu.AGREE[name in GPTS]
    assert found["utilisation"]["gpt-tiny"]["sillar torch"] > 0
    assert "to show that it runs" in said


def test_without_a_gpu_it_says_what_to_do():
    if json.loads(gpu.child("about_device")[-1])["cuda"]:
        pytest.skip("there is a GPU")
    command = [sys.executable, "-m", "benchmarks.gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no GPU here; --smoke tries all on the CPU" in done.stderr


def test_all_workloads_of_the_cpu_are_there_and_the_gpt_has_124_million():
    assert set(gpu.NAMES) == {*WORKLOADS, "resnet18", "gpt-124m"}
    sizes = GPTS["gpt-124m"]
    assert (sizes.blocks, sizes.width, sizes.context) == (12, 768, 1024)
    count = in_sillar.NETWORKS["gpt-124m"]().parameters().size
    assert 124e6 < count < 125e6
    assert ALL["resnet18"].shape == (32, 32, 3)
    assert ALL["resnet18"].batch == 256
    layers = in_sillar.NETWORKS["resnet18"]().parameters().size
    assert 11.1e6 < layers < 11.2e6  # of ResNet-18 with ten classes
    tokens = ALL["gpt-124m"].batch * 1024
    assert gpu.flops("gpt-124m") == pytest.approx(6 * count * tokens, rel=0.15)


def row(**times):
    names = {"ours": "sillar torch", "host": "sillar numpy"}
    return {
        names.get(who, who): {"milliseconds": [t], "losses": [1.0, 0.9]}
        for who, t in times.items()
    }


def test_bars_say_what_is_missed():
    bars = gpu.bars_of("cnn", row(ours=2.0, torch=3.0, host=30.0))
    assert [round(bar.ratio, 3) for bar in bars] == [1.5, 1.5, 15.0]
    assert not any(bar.missed for bar in bars)
    bars = gpu.bars_of("cnn", row(ours=2.0, torch=1.8, host=10.0))
    assert all(bar.missed for bar in bars)
    other = row(ours=2.0, torch=3.0)
    other["torch"]["losses"] = [1.0, 2.0]
    assert all(bar.missed for bar in gpu.bars_of("cnn", other))
    assert gpu.bars_of("cnn", {"torch": "left out: the time was up"}) == []


def test_what_fails_or_is_late_is_left_out_and_said(tmp_path):
    told = SimpleNamespace(minutes=0.0, rounds=1, smoke=True)
    rows, _ = gpu.measure(["small"], told, "cpu")
    assert {*rows["small"].values()} == {"left out: the time was up"}
    np.savez(tmp_path / "small.npz", wrong=np.zeros(1))
    plan = json.dumps({"workloads": [("small", False)], "seconds": 9, "rounds": 1})
    (line,) = gpu.child("answer", "sillar numpy", str(tmp_path), "cpu", plan)
    assert json.loads(line)[0] == "small"
    assert "Error: " in json.loads(line)[1]
    assert gpu.child("about_device", seconds=0.1) == []
