"""`sillar profile`: where the time of a run's steps goes, without touching the run."""

import pstats

import pytest
from command_line import as_json, sillar

from sillar.cli import profile


def contents(directory):
    files = (p for p in sorted(directory.rglob("*")) if p.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_the_rows_add_up_and_the_run_is_left_alone(digits_run):
    before = contents(digits_run)
    found = as_json("profile", digits_run, "--steps", 3)
    assert before == contents(digits_run)
    assert (found["run"], found["steps"]) == (str(digits_run), 3)
    rows, layers = found["rows"], found["layers"]
    for table in (rows, layers):
        total = sum(row["seconds"] for row in table)
        assert found["seconds"] == pytest.approx(total, rel=0.05)
    products = [r for r in rows if r["operation"] == "conv" and r["direction"]]
    assert {row["calls"] for row in products} == {3}
    assert {"layers.0", "CrossEntropy", "Adam"} <= {row["layer"] for row in layers}
    assert {row["line"] for row in rows} == {""}
    assert found["compiled_seconds"] > 0


def test_a_run_of_halves_is_profiled_as_it_trains(tmp_path, monkeypatch):
    out, seen = tmp_path / "run", []
    sillar("train", "digits", "--epochs", 1, "--precision", "float16", "--out", out)
    usual = profile.Step
    spy = lambda *a, **o: seen.append(o["precision"]) or usual(*a, **o)  # noqa: E731
    monkeypatch.setattr(profile, "Step", spy)
    assert profile.profile(out, 1, None, None)["compiled_seconds"] > 0
    assert seen == ["float32", "float16"]


def test_people_see_it_in_80_columns(digits_run):
    out = sillar("profile", digits_run, "--steps", 1).stdout
    assert max(map(len, out.splitlines())) <= 80
    for word in ("layers.0 (Conv2D)", "forward:", "backward:", "one step as written"):
        assert word in out


def test_a_file_for_pstats_is_written(digits_run, tmp_path):
    path = tmp_path / "run.prof"
    sillar("profile", digits_run, "--steps", 1, "--cprofile", path)
    names = {name for _, _, name in pstats.Stats(str(path)).stats}
    assert {"forward", "grad"} <= names


def test_mistakes_are_explained(tmp_path):
    assert "holds no run" in sillar("profile", tmp_path, code=2).stderr
    done = sillar("profile", tmp_path, "--steps", 0, code=2)
    assert "greater than or equal to 1" in done.stderr
