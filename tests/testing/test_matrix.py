"""The matrix has no hole, is what docs/ shows, and goes red for what is wrong."""

import json
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.core import ops, tape
from sillar.errors import DtypeError, ShapeError
from sillar.testing import subjects as tables
from sillar.testing.__main__ import main
from sillar.testing.cases import layers, losses, primitives
from sillar.testing.matrix import PLACES, REFUSED, Cell, Row, row, rows
from sillar.testing.page import page
from sillar.testing.subjects import Case, Subject, subjects
from sillar.testing.table import text

KEPT = (Path(__file__).parents[2] / "docs" / "derivatives.md").read_text()
(TABLE,) = re.findall(r"```text\n(.*?)```\n", KEPT, re.DOTALL)
SUBJECTS = {f"{s.kind}-{s.name}": s for s in subjects()}


def words(table):
    """Return what a table says in each row: "ok", or a reason in full."""
    legend = dict(re.findall(r"^([a-z])  (.*)$", table, re.MULTILINE))
    found = {}
    for line in table.splitlines():
        name, *cells = line.split() or [""]
        if len(cells) == len(PLACES) and name != "1":
            found[name] = [legend.get(cell, cell) for cell in cells]
    return found


KEPT_WORDS = words(TABLE)


def test_the_kept_page_is_of_today():
    assert page(TABLE) == KEPT
    assert list(KEPT_WORDS) == [s.name for s in subjects()]


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_row_is_whole_and_as_the_page_shows_it(name):
    found = row(SUBJECTS[name])
    assert found.whole, [cell for cell in found.cells.values() if cell.text]
    assert words(text([found])) == {found.name: KEPT_WORDS[found.name]}


def test_second_order_of_attention_and_lstm_is_checked_in_every_shape():
    for name in ("Attention", "LSTM", "attention", "recurrent"):
        cells = dict(zip(PLACES, KEPT_WORDS[name], strict=True))
        fixed = name == "recurrent"  # whose axes are
        assert {cells[p] for p in PLACES if p[0] != "broadcast" or not fixed} == {"ok"}


# A subject that is not in its table is a hole.
HOLES = {
    "sqrt": (primitives, lambda case: case[0] is ops.sqrt),
    "Dense": (layers, lambda case: type(case[0]) is nn.Dense),
    "MSE": (losses, lambda case: type(case[0]) is nn.MSE),
}


@pytest.mark.parametrize("name", HOLES)
def test_what_has_no_case_is_a_hole(name, monkeypatch, capsys):
    module, is_it = HOLES[name]
    rest = {key: case for key, case in module.CASES.items() if not is_it(case)}
    monkeypatch.setattr(module, "CASES", rest)
    assert main(["--only", name]) == 1
    out = capsys.readouterr().out
    assert f"{name}, plain, float64: no case and no reason" in out
    assert "1 rows, 24 cells: 0 ok" in out


def test_a_primitive_that_nobody_listed_is_a_hole(monkeypatch):
    def unlisted(xp, x):
        """Return x."""
        return x

    unlisted.__module__ = "sillar.somewhere"
    monkeypatch.setattr(tape, "_PRIMITIVES", [tape.Primitive(unlisted)])
    (found,) = rows("unlisted")
    assert {cell.state for cell in found.cells.values()} == {"hole"}


def test_a_primitive_without_a_rule_needs_a_reason(monkeypatch):
    monkeypatch.setattr(primitives, "WITHOUT_GRADIENT", {})
    assert not row_of("sign").whole


def row_of(name):
    (found,) = rows(name)
    return found


def bent(x, y):
    """Return 0, with a right first derivative, 0, and a wrong second one."""
    away = x - x.detach()
    return away * away


# Rules of exp that are wrong from one order on.
FAULTS = {
    1: lambda g, y, x: g * y * 1.001,
    2: lambda g, y, x: g * y.detach(),
    3: lambda g, y, x: g * (y + bent(x, y)),
}


@pytest.mark.parametrize("order", FAULTS)
def test_a_wrong_rule_is_red_from_its_order_on(order, monkeypatch, capsys):
    monkeypatch.setattr(ops.exp, "rules", (FAULTS[order],))
    assert main(["--only", "exp"]) == 1
    assert f"exp, plain, float64: order {order}: " in capsys.readouterr().out
    cells = row_of("exp").cells
    states = [cells["plain", "float64", n].state for n in (1, 2, 3)]
    assert states == ["ok"] * (order - 1) + ["failed"] * (4 - order)


def test_a_rule_that_is_wrong_for_one_shape_is_red_there_alone(monkeypatch):
    def rule(g, y, x):
        return g * y * (1.0 if x.size > 1 else 1.001)

    monkeypatch.setattr(ops.exp, "rules", (rule,))
    cells = row_of("exp").cells
    assert cells["plain", "float64", 1].state == "ok"
    assert cells["odd", "float64", 1].state == "failed"


def test_a_rule_that_is_wrong_in_float32_is_red_there_alone(monkeypatch):
    def imprecise(g, y, x):
        return g * y * (1.001 if x.dtype == np.float32 else 1.0)

    def wide(g, y, x):
        return (g * y).astype("float64")

    for rule, says in ((imprecise, "off by"), (wide, DtypeError.__name__)):
        monkeypatch.setattr(ops.exp, "rules", (rule,))
        cells = row_of("exp").cells
        assert cells["plain", "float64", 1].state == "ok"
        assert says in cells["plain", "float32", 1].text


@pytest.mark.parametrize("rule", [lambda g, y, x: g * np.nan, lambda g, y, x: 1 / 0])
def test_what_is_not_a_number_and_what_raises_is_red(rule, monkeypatch):
    monkeypatch.setattr(ops.exp, "rules", (rule,))
    assert row_of("exp").cells["plain", "float64", 1].state == "failed"


def test_a_layer_and_a_loss_with_a_wrong_derivative_are_red(monkeypatch):
    wrong = lambda self, x: ops.tanh(x) + (x - x.detach()) * 0.01  # noqa: E731
    monkeypatch.setattr(nn.Tanh, "forward", wrong)
    assert row_of("Tanh").cells["plain", "float64", 1].state == "failed"
    elements = lambda self, p, t: (p - t) * (p - t).detach()  # noqa: E731
    monkeypatch.setattr(nn.MSE, "elements", elements)
    assert row_of("MSE").cells["plain", "float64", 1].state == "failed"


def refusing(error):
    def f():
        raise error

    return lambda dtype: (f, {})


def test_only_what_may_refuse_may_and_with_a_shape_error_alone():
    def state(*cases):
        return row(Subject("layer", "L", {"odd": list(cases)}, {})).cells[
            "odd", "float64", 1
        ]

    allowed = Case(refusing(ShapeError("no")), may_refuse=True)
    assert state(allowed) == Cell("reason", REFUSED)
    assert state(Case(refusing(ShapeError("no")))).state == "failed"
    assert state(Case(refusing(ValueError("no")), may_refuse=True)).state == "failed"


def test_reasons_against_stretching_are_needed():
    for subject in subjects():
        assert not set(subject.reasons) & set(subject.cases)
    assert set(tables.NOT_STRETCHED) <= {s.name for s in subjects()}


def test_points_are_the_same_in_both_types_and_strides_are_kept():
    for make in (partial(tables._given, x) for x in (ARRAY, tables._strided(ARRAY))):
        single, double = make("float32"), make("float64")
        np.testing.assert_array_equal(single.numpy(), double.numpy())
    assert not double.data.flags.c_contiguous
    assert double.data.strides[-1] < 0


ARRAY = sl.Rng(0).normal((3, 5), "float64")


def test_json_is_the_last_line(capsys):
    assert main(["--only", "add", "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    (found,) = last["rows"]
    assert (last["holes"], found["kind"], found["name"]) == ([], "primitive", "add")
    cell = found["cells"]["broadcast float64 2"]
    assert cell["state"] == "ok"
    assert 0 < cell["error"] < 1e-7
    assert len(found["cells"]) == len(PLACES)


def test_an_unknown_name_is_said_with_the_known_ones(capsys):
    assert main(["--only", "nonsense"]) == 2
    assert "got 'nonsense'; they are: Attention, " in capsys.readouterr().err


def test_the_page_is_written(tmp_path, capsys):
    assert main(["--only", "sign", "--write", str(tmp_path / "page.md")]) == 0
    table = capsys.readouterr().out
    assert (tmp_path / "page.md").read_text() == page(table)


def test_a_terminal_shows_which_row_is_checked(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main(["--only", "sign"])
    assert capsys.readouterr().err.startswith("\r1/1 sign ")


def test_the_table_is_at_most_100_columns_wide():
    assert max(map(len, TABLE.splitlines())) <= 100
    failed = Cell("failed", "order 1: off")
    shown = text([Row("loss", "Wrong", dict.fromkeys(PLACES, failed))])
    assert shown.count("!!") == len(PLACES)
    assert "Wrong, plain, float32: order 1: off" in shown
    assert "24 cells: 0 ok, 0 with a reason, 24 failed, 0 empty" in shown
