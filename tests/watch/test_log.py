"""Each operation has its line, and the first difference of two runs is found."""

import json

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.core import ops
from sillar.errors import ConfigError, DataError
from sillar.watch import diff_logs, log_nodes


def model():
    layers = nn.Dense(3, 8), nn.Tanh(), nn.Dense(8, 8), nn.ReLU(), nn.Dense(8, 2)
    return nn.Sequential(*layers).init(sl.Rng(0))


X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
Y = np.arange(16) % 2


def logged(path, net=None, **options):
    """Log one gradient step, and return the lines."""
    net = net or model()
    with log_nodes(path, net, **options):
        loss = sl.CrossEntropy()(net(X), Y)
        sl.grad(loss, net.parameters())
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_tells_what_an_operation_gave(tmp_path):
    net = model()
    first, second, third, *_ = logged(tmp_path / "a.jsonl", net)
    y = X @ net.parameters()["layers.0.weight"].data
    assert first["line"].startswith("test_log.py:")
    expected = {"id": 0, "name": "matmul", "layer": "layers.0", "backward": False}
    expected |= {"inputs": [[16, 3], [3, 8]], "shape": [16, 8], "dtype": "float32"}
    expected |= {"non_finite": 0}
    assert expected == {key: first[key] for key in expected}
    got = [first[key] for key in ("mean", "deviation", "largest")]
    y = y.astype(np.float64)
    np.testing.assert_allclose(got, [y.mean(), y.std(), np.abs(y).max()], rtol=1e-6)
    assert [second["name"], third["name"]] == ["add", "tanh"]


def test_equal_runs_do_not_part(tmp_path):
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    lines = logged(a)
    assert any(line["backward"] for line in lines)
    assert lines == logged(b)
    assert diff_logs(a, b, rtol=0) is None


def test_a_wrong_rule_is_found(tmp_path, monkeypatch):
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    logged(a)
    monkeypatch.setattr(ops.tanh, "rules", (lambda g, y, x: g * (1.0 - y * x),))
    logged(b)
    difference = diff_logs(a, b)
    node = difference.node
    assert (node["name"], node["layer"]) == ("multiply", "layers.1")
    assert node["backward"] is True
    assert "multiply in layers.1, test_log.py:" in str(difference)
    assert "on the way back: mean is " in str(difference)


def test_a_changed_weight_is_found(tmp_path):
    a, b, net = tmp_path / "a.jsonl", tmp_path / "b.jsonl", model()
    logged(a)
    net.parameters()["layers.2.weight"].data[3, 4] *= 1.001
    logged(b, net)
    node, how = diff_logs(a, b)
    assert (node["name"], node["layer"]) == ("matmul", "layers.2")
    assert how.startswith(("mean is", "deviation is"))
    assert diff_logs(a, b, rtol=0.1) is None


def test_another_program_is_found(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    x = sl.Tensor([1.0, 2.0])
    with log_nodes(a):
        sl.exp(x)
    with log_nodes(b):
        sl.tanh(x)
    with log_nodes(c):
        sl.exp(x) * 2.0
    assert diff_logs(a, b).how == "name is exp and tanh"
    assert diff_logs(a, c).how == "only the second run has it"
    assert diff_logs(c, a).how == "only the first run has it"
    assert diff_logs(c, a).node["name"] == "multiply"


def test_the_log_is_bounded_and_says_so(tmp_path):
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    everything = logged(whole)
    lines = logged(part, max_bytes=2048)
    assert part.stat().st_size <= 2048
    assert lines[:-1] == everything[: len(lines) - 1]
    expected = {"stopped": f"max_bytes was reached after {len(lines) - 1} nodes"}
    assert expected == lines[-1]
    assert len(lines) > 3
    assert diff_logs(whole, part, rtol=0) is None


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_any_values_can_be_logged(tmp_path):
    path = tmp_path / "a.jsonl"
    with log_nodes(path):
        sl.exp(np.ones((0, 3), np.float32))
        sl.Tensor([1, -5]) * 1
        np.greater(sl.Tensor([1.0, 2.0]), 1.5)
        sl.log(sl.Tensor([0.0, 1.0, np.nan, np.inf]))
        sl.log(sl.Tensor([np.nan]))
        sl.Tensor(np.full(4, 1e308)) * 1.0
    keys = ("mean", "deviation", "largest", "non_finite")
    lines = map(json.loads, path.read_text().splitlines())
    expected = [
        [None, None, None, 0],
        [-2, 3, 5, 0],
        [0.5, 0.5, 1, 0],
        [0, 0, 0, 3],
        [None, None, None, 1],
        [None, None, 1e308, 0],  # their sum is more than a float64 holds
    ]
    assert expected == [[line[key] for key in keys] for line in lines]


def test_mistakes_are_explained(tmp_path):
    (tmp_path / "a").write_text('{"id": 1}\n')
    with pytest.raises(DataError, match=r"line 1 of .* give two files that log_nodes"):
        diff_logs(tmp_path / "a", tmp_path / "a")
    with pytest.raises(ConfigError, match=r"rtol must be >= 0, got -1"):
        diff_logs(tmp_path / "a", tmp_path / "a", rtol=-1)
    with pytest.raises(ConfigError, match="log_nodes: max_bytes"):
        log_nodes(tmp_path / "b", max_bytes=10)
