"""`sillar inspect` and `sillar doctor`: what a file, a run and a machine hold."""

import hashlib
import json

import numpy as np
import pytest
from command_line import as_json, sillar
from safetensors.numpy import save_file

import sillar as sl
from sillar import nn
from sillar.cli import doctor, machine


def test_a_run_shows_its_record_its_last_epoch_and_its_model(digits_run):
    found = as_json("inspect", digits_run)
    assert found["run"] == str(digits_run)
    assert found["record"] == json.loads((digits_run / "run.json").read_text())
    last = (digits_run / "metrics.jsonl").read_text().splitlines()[-1]
    assert found["last"] == json.loads(last)
    path = digits_run / "model.safetensors"
    assert found["file"] == as_json("inspect", path)["file"]


def test_a_model_file_shows_all_there_is_to_know(digits_run):
    path = digits_run / "model.safetensors"
    found = as_json("inspect", path)["file"]
    assert found["bytes"] == path.stat().st_size
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["parameters"] == 24_586
    assert found["notes"]["classes"] == [*"0123456789"]
    assert found["architecture"]["type"] == "Sequential"
    assert found["layers"][0].startswith("Conv2D(1, 32, 3")
    first = {"name": "layers.0.weight", "dtype": "float32", "shape": [3, 3, 1, 32]}
    assert found["arrays"][0] == first


def test_people_see_it_in_80_columns(digits_run):
    out = sillar("inspect", digits_run, cwd=digits_run.parent).stdout
    words = ["finished: all 3 epochs are done", "last epoch", "ROC-AUC", "24,586"]
    words += ["Conv2D(1, 32, 3", "3 × 3 × 1 × 32", "data, SHA-256", "openblas"][:-1]
    for word in words:
        assert word in out, word
    assert max(map(len, out.splitlines())) <= 80


def test_buffers_are_not_counted_as_parameters(tmp_path, in_process):
    model = nn.Sequential(nn.BatchNorm(5), nn.Dense(5, 2)).init(sl.Rng(0))
    sl.save(model, tmp_path / "m.safetensors")
    found = json.loads(in_process("inspect", tmp_path / "m.safetensors", "--json"))
    assert found["file"]["parameters"] == 5 + 5 + 5 * 2 + 2
    assert len(found["file"]["arrays"]) == 6


def test_arrays_of_another_program_are_shown_too(tmp_path, in_process):
    path = tmp_path / "other.safetensors"
    save_file({"a": np.ones((2, 3)), "b": np.ones(4, "i8")}, path, {"by": "\x1b[31mme"})
    found = json.loads(in_process("inspect", path, "--json"))["file"]
    assert found["architecture"] is None
    assert found["metadata"] == {"by": "\x1b[31mme"}
    assert found["parameters"] == 10
    out = in_process("inspect", path)
    assert "none in the file" in out
    assert "\x1b" not in out


def test_names_in_a_file_are_no_markup_and_no_escapes(tmp_path, in_process):
    path = tmp_path / "odd.safetensors"
    names = ["[bold red]x[/]", "[/]", "\x1b]0;title\x07", "a\nb", "\u202ex"]
    save_file({name: np.ones(1) for name in names}, path)
    out = in_process("inspect", path)
    assert "[bold red]x[/]" in out
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert "a b" in out


def test_a_file_of_many_arrays_is_cut_for_people_only(tmp_path, in_process):
    path = tmp_path / "many.safetensors"
    save_file({f"a{i}": np.ones(1) for i in range(1000)}, path)
    assert "and 800 more: --json has them all" in in_process("inspect", path)
    found = json.loads(in_process("inspect", path, "--json"))
    assert len(found["file"]["arrays"]) == 1000


HOSTILE = {
    "empty": b"",
    "short": b"\x08",
    "no JSON": (8).to_bytes(8, "little") + b"{{{{{{{{",
    "too long": (2**62).to_bytes(8, "little") + b"{}",
    "code": (90).to_bytes(8, "little")
    + b'{"__metadata__":{"sillar":"{\\"version\\":1,\\"architecture\\":{\\"type\\":'
    b'\\"os.system\\"}}"}}'.ljust(90),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_broken_or_hostile_file_is_refused(case, tmp_path, in_process):
    path = tmp_path / "x.safetensors"
    path.write_bytes(HOSTILE[case])
    assert in_process("inspect", path, code=2)


def test_what_is_not_there_is_named(tmp_path, in_process):
    assert "none" in in_process("inspect", tmp_path / "none", code=2)
    assert "holds no run" in in_process("inspect", tmp_path, code=2)


def test_a_run_that_was_cut_off_can_be_inspected(moons_run, tmp_path, in_process):
    record = json.loads((moons_run / "run.json").read_text())
    record |= {"metrics": None, "ended": None, "reason": None}
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "metrics.jsonl").write_text(
        '{"epoch": 1, "loss": null}\n{"epoch": 2, "l'
    )
    assert "not finished: it was cut off" in in_process("inspect", tmp_path)
    found = json.loads(in_process("inspect", tmp_path, "--json"))
    assert found["last"] == {"epoch": 1, "loss": None}
    assert found["file"] is None


def test_a_record_with_odd_values_can_be_inspected(moons_run, tmp_path, in_process):
    record = json.loads((moons_run / "run.json").read_text())
    odd = {"metrics": {"accuracy": "\x1b[2J", "loss": [[]], "per_class": 3}}
    odd |= {"versions": 3, "data": [], "reason": {}, "started": 5, "platform": None}
    (tmp_path / "run.json").write_text(json.dumps(record | odd))
    assert "\x1b" not in in_process("inspect", tmp_path)


def test_the_doctor_knows_the_machine():
    found = as_json("doctor")
    assert found["versions"]["sillar"] == sl.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["backends"]["numpy"].startswith("ready")
    assert set(found["backends"]) >= {"numpy", "torch"}
    assert 1 <= found["cores"]["usable"] <= found["cores"]["machine"]
    assert found["blas"][0]["threads"] >= 1
    assert found["memory"]["total"] > found["memory"]["available"] > 0
    assert found["processor"]["name"]
    out = sillar("doctor").stdout
    for word in ("versions", "back ends", "machine", "BLAS", "usable of"):
        assert word in out


HEALTHY = {
    "cores": {"usable": 4, "machine": 4},
    "blas": [{"name": "openblas", "threads": 4}],
    "memory": {"total": 2**34, "available": 2**33},
    "processor": {"flags": ["sse4_2", "avx2"]},
}
SICK = {
    "too few threads": ("blas", [{"name": "openblas", "threads": 1}], "uses 1 of 4"),
    "too many threads": (
        "blas",
        [{"name": "mkl", "threads": 9}],
        "set OMP_NUM_THREADS=4",
    ),
    "no library": ("blas", [], "no known linear algebra library"),
    "no memory": ("memory", {"total": 2**34, "available": 2**28}, "only 256 MiB"),
    "an old processor": ("processor", {"flags": ["sse4_2"]}, "no AVX2"),
}


def test_the_doctor_leaves_a_healthy_machine_alone():
    assert doctor.warnings(HEALTHY) == []


@pytest.mark.parametrize("case", SICK)
def test_the_doctor_warns_of_what_slows_training_down(case):
    part, value, message = SICK[case]
    (warning,) = doctor.warnings({**HEALTHY, part: value})
    assert message in warning


def test_the_doctor_sees_the_thread_settings():
    found = as_json("doctor")  # with OPENBLAS_NUM_THREADS=1
    assert found["blas"][0]["threads"] == 1
    assert bool(found["warnings"]) == (found["cores"]["usable"] > 1)


def test_a_machine_that_tells_nothing_is_no_error(monkeypatch):
    monkeypatch.setattr(machine, "_lines", lambda path: [])
    found = doctor.examine()
    assert found["memory"] == {"total": None, "available": None}
    assert found["processor"]["flags"] == []
    assert doctor.tables(found)
