import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import in_sillar, latency, memory, report, step
from benchmarks.child import environment, in_child
from benchmarks.report import Bar
from benchmarks.timing import turns, worked
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).parents[2]
LIBRARIES = {"sillar", "sillar compiled", "torch", "jax.jit"}  # the quick ones

for library in ("jax", "matplotlib", "onnx", "onnxruntime", "torch"):
    if find_spec(library) is None:
        pytest.skip(f"needs {library}: make bench installs it", allow_module_level=True)


@pytest.fixture(scope="module")
def differences():
    """Return how far results of libraries lie apart; JAX lives in a child."""
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "differences.py")]
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # compiles faster
    env = environment(1) | quick | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", sorted(set(WORKLOADS) - {"lstm"}))
def test_libraries_train_alike(differences, name):
    found = differences["losses"][name]
    assert set(found) == LIBRARIES
    assert max(found.values()) <= step.AGREE, found


@pytest.mark.parametrize("name", latency.NAMES)
def test_libraries_predict_alike(differences, name):
    found = differences["outputs"][name]
    assert {"sillar", "sillar compiled", "torch", "jax.jit", "onnxruntime"} == set(
        found
    )
    assert max(found.values()) <= latency.AGREE, found


def test_the_convnet_is_the_one_of_the_keras_examples():
    model = in_sillar.NETWORKS["convnet"]()
    assert model.parameters().size == 34_826


def test_the_step_command_measures_all_libraries(tmp_path):
    command = [sys.executable, "-m", "benchmarks.step", "--only", "small", "--json"]
    command += ["--threads", "1", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    row = found["threads"]["1"]["small"]
    assert set(memory.LIBRARIES) == set(row["milliseconds"])
    assert max(row["apart"].values()) <= step.AGREE
    assert min(row["milliseconds"].values()) > 0
    names = [bar["name"] for panel in found["bars"].values() for bar in panel]
    assert names == ["small", "geometric mean"] * 2


def test_a_child_has_its_cores_and_the_processors_own_kernels(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    env = environment(3)
    assert env["OMP_NUM_THREADS"] == env["OPENBLAS_NUM_THREADS"] == "3"
    assert "OPENBLAS_CORETYPE" not in env
    assert in_child("machine.machine", threads=1)["cores"] == 1


def test_memory_of_training_and_of_an_import(tmp_path):
    path = str(tmp_path / "weights.npz")
    in_child("in_torch.save", "small", path, threads=1)
    grown = in_child("process.train", "sillar compiled", "small", path, 2, threads=1)
    _, light = in_child("process.imported", "numpy", threads=1)
    assert 5 < light < grown < 500


def test_turns_time_each_function():
    calls = {"short": lambda: sum(range(9)), "long": lambda: sum(range(10**5))}
    found = turns(calls, 1)
    assert found["milliseconds"]["short"] < found["milliseconds"]["long"]
    assert found["cpu_milliseconds"]["long"] > 0
    assert found["others_cores"] >= 0


def test_other_work_is_noticed():
    before, end = worked(), time.process_time() + 0.1
    while time.process_time() < end:
        pass
    assert worked() - before > 0.05
    row = {"apart": {"torch": 0.0}, "others_cores": 0.5}
    assert "0.5 cores busy" in report.remarks({"small": row}, 1e-4)[0]
    assert report.remarks({"small": row | {"others_cores": 0.0}}, 1e-4) == []


def test_a_step_row_is_held_against_the_best_peer():
    times = {"sillar": 4.0, "sillar compiled": 2.0, "torch": 3.0, "jax.jit": 1.0}
    row = {
        "milliseconds": times,
        "apart": dict.fromkeys(times, 1e-6),
        "others_cores": 0,
    }
    compiled, eager = step.bars_of(row)
    assert (compiled.ratio, eager.ratio) == (0.5, 0.75)
    assert compiled.missed
    assert eager.missed
    times |= {"sillar": 2.0, "sillar compiled": 1.0}
    assert not any(bar.missed for bar in step.bars_of(row))
    row["apart"]["jax.jit"] = 1.0
    assert all(bar.missed for bar in step.bars_of(row))
    text, _ = step.report(1, {"small": row})
    assert "results differ from PyTorch's by {'jax.jit': '1e+00'}" in text


def test_latency_is_held_against_pytorch_and_onnx_runtime():
    times = {"torch": 4.0, "torch.compile": 3.0, "onnxruntime": 1.0}
    times["sillar compiled"] = 2.0
    row = {"milliseconds": times, "apart": dict.fromkeys(times, 0.0)}
    assert [bar.missed for bar in latency.bars_of("small", 1, row)] == [True, True]
    assert [bar.missed for bar in latency.bars_of("convnet", 1, row)] == [True, False]
    assert [bar.missed for bar in latency.bars_of("small", 256, row)] == [False, False]


def test_memory_is_held_against_the_lighter_pytorch():
    row = {"sillar compiled": 100.0, "torch": 190.0, "torch.compile": 400.0}
    assert memory.bars_of({"small": row})["small"][0].missed
    row["torch"] = 200.0
    assert not memory.bars_of({"small": row})["small"][0].missed


def test_a_missed_bar_stands_in_the_table_and_is_red_in_the_picture(tmp_path):
    met, missed = Bar("met", 2.0, 1.0), Bar("missed", 0.5, 1.0)
    bars = {"met": [met], "missed": [missed]}
    rows = {"met": {"torch": 2.0}, "missed": {"torch": 1.0}}
    lines = report.table("title", rows, bars).splitlines()
    assert ["MISSED" in line for line in lines[-2:]] == [False, True]
    path = tmp_path / "picture.svg"
    report.picture(path, {"title": [met, missed, Bar("no bar", 1.0)]})
    ElementTree.parse(path)
    for colour in ("#2e8b57", "#c0392b", "#8c939a"):
        assert colour in path.read_text()


def test_the_geometric_mean_is_a_bar():
    assert report.geometric_mean([Bar("a", 1.0), Bar("b", 4.0)], 1.5).ratio == 2.0
    assert report.geometric_mean([Bar("a", 1.0)], 1.5).missed


def test_the_precision_command_measures_time_and_memory():
    command = [sys.executable, "-m", "benchmarks.precision", "--only", "names-gru"]
    command += ["--threads", "1", "--rounds", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    row = json.loads(done.stdout.splitlines()[-1])["threads"]["1"]["names-gru"]
    assert set(row["milliseconds"]) == {"float32", "bfloat16", "float16"}
    assert row["waiting"]["bfloat16"] <= 0.6 * row["waiting"]["float32"]
