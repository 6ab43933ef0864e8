"""`sillar export`: a run's model as ONNX, which predicts as the run does."""

import json

import numpy as np
import pytest
from command_line import as_json, sillar

import sillar as sl

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "digits"
    sillar("train", "digits", "--epochs", 1, "--out", run)
    return run


def test_a_run_is_exported(run):
    found = as_json("export", run)
    path = run / "model.onnx"
    assert found["file"] == str(path)
    assert found["bytes"] == path.stat().st_size
    assert found["input"] == ["batch", 8, 8, 1]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    notes = session.get_modelmeta().custom_metadata_map
    assert json.loads(notes["classes"]) == [str(k) for k in range(10)]
    x = sl.data.digits().x[:50]
    (outputs,) = session.run(None, {"input": x})
    expected = sl.predict(sl.load(run / "model.safetensors"), x)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


def test_the_file_goes_where_it_is_wanted(run, tmp_path):
    said = sillar("export", run, "--out", tmp_path / "m.onnx").stdout
    assert (tmp_path / "m.onnx").exists()
    assert "m.onnx" in said


def test_a_run_that_is_not_there_is_told(in_process, tmp_path):
    assert "error" in in_process("export", tmp_path, code=2)
