"""The matrix of derivatives has no hole, notices faults, and is what docs/ shows."""

import json
import re
from pathlib import Path

import pytest

from sillar.core import ops
from sillar.testing import matrix
from sillar.testing.__main__ import PAGE, main, table

KEPT = (Path(__file__).parents[2] / "docs" / "derivatives.md").read_text()
QUICK = ("multiply", "relu", "where", "matmul", "conv", "Dense", "LSTM-one", "MSE")


def test_everything_has_a_row():
    assert matrix.missing() == []


def test_a_primitive_without_a_case_is_a_hole(monkeypatch, capsys):
    cases = {k: c for k, c in matrix.primitives.CASES.items() if c[0] is not ops.sqrt}
    monkeypatch.setattr(matrix.primitives, "CASES", cases)
    assert matrix.missing() == ["sqrt"]
    assert main(["--only", "sqrt"]) == 1
    assert "FAILED sqrt, float64 first: a hole" in capsys.readouterr().out


def test_the_kept_page_is_of_these_rows():
    assert KEPT.startswith(PAGE)
    kept = dict(re.findall(r"^\| \w+ +\| (\w+) +\| +(\d+|–)", KEPT, re.MULTILINE))
    assert kept == {
        **{name: str(len(cases)) for (_, name), cases in matrix.subjects().items()},
        **{op.name: "–" for op in matrix.primitives.WITHOUT_GRADIENT},
    }
    assert "FAILED" not in KEPT


@pytest.mark.parametrize("name", QUICK)
def test_rows_are_as_the_page_shows_them(name):
    for row in matrix.rows(name):
        assert row.whole
        shown = table([row]).splitlines()[2]
        cells = [cell.strip() for cell in shown.split("|")[1:-1]]
        (line,) = (s for s in KEPT.splitlines() if re.match(rf"\| \w+ +\| {name} ", s))
        kept = [cell.strip() for cell in line.split("|")[1:-1]]
        for ours, theirs in zip(cells, kept, strict=True):  # letters are the page's
            assert ours == theirs or (ours.isalpha() and len(ours) == len(theirs) == 1)


FAULTS = {
    "first": lambda g, y, x: g * x.detach() * 3.0,
    "second": lambda g, y, x: g * y.detach(),
    "third": lambda g, y, x: g * (y + ops.exp(x).detach() * 0.0 + frozen(x, y)),
}


def frozen(x, y):
    """Return 0, with a right first derivative, 0, and a wrong second one."""
    away = x - x.detach()
    return away * away


@pytest.mark.parametrize("order", FAULTS)
def test_a_wrong_rule_is_seen_at_its_order(order, monkeypatch, capsys):
    monkeypatch.setattr(ops.exp, "rules", (FAULTS[order],))
    assert main(["--only", "exp"]) == 1
    (row,) = matrix.rows("exp")
    states = [row.cells[f"float64 {name}"] for name in matrix.ORDERS]
    at = list(FAULTS).index(order)
    assert all(state == "ok" for state in states[:at])
    assert states[at].startswith("! order")
    assert "FAILED" in capsys.readouterr().out


def test_json_is_the_last_line(capsys):
    assert main(["--only", "add", "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["holes"] == []
    assert last["rows"][0]["cells"]["float64 second"] == "ok"


def test_an_unknown_name_is_said(capsys):
    assert main(["--only", "nonsense"]) == 2
    assert "no primitive, layer or loss 'nonsense'" in capsys.readouterr().err
