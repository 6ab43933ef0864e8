"""Every primitive's gradients against differences, and the checker against mistakes."""

from functools import partial

import numpy as np
import pytest

from sillar.core import ops
from sillar.core.tape import Primitive, all_primitives
from sillar.errors import DtypeError, GradientError, ShapeError
from sillar.testing import check_grads
from sillar.testing.cases.kernels import primitive_of
from sillar.testing.cases.primitives import CASES, WITHOUT_GRADIENT

OURS = {op for op in all_primitives() if op.forward.__module__.startswith("sillar.")}


@pytest.mark.parametrize(("op", "args", "static"), CASES.values(), ids=CASES)
def test_gradients_match_differences_to_third_order(op, args, static):
    check_grads(partial(op, **static), args, order=3)


def test_every_primitive_has_a_gradient_case():
    assert {primitive_of(op) for op, *_ in CASES.values()} | set(
        WITHOUT_GRADIENT
    ) == OURS


def test_primitives_without_gradients_are_those_without_rules():
    assert set(WITHOUT_GRADIENT) == {op for op in OURS if not op.differentiable}


RULES = {
    f"{op.name}-{i}": (op, i)
    for op in sorted(OURS, key=lambda op: op.name)
    for i in range(1 if op.each or op.all else len(op.rules))
    if op.each or op.all or op.rules[i]
}


@pytest.mark.parametrize(("op", "i"), RULES.values(), ids=RULES)
def test_the_table_notices_a_wrong_sign_in_every_rule(op, i, monkeypatch):
    rule = op.each or op.all or op.rules[i]
    wrong = lambda *args, **static: -rule(*args, **static)  # noqa: E731
    if op.all:
        several = lambda *args, **static: [-g for g in rule(*args, **static)]  # noqa: E731
        monkeypatch.setattr(op, "all", several)
    elif op.each:
        monkeypatch.setattr(op, "each", wrong)
    else:
        monkeypatch.setattr(op, "rules", (*op.rules[:i], wrong, *op.rules[i + 1 :]))
    with pytest.raises(GradientError):
        check_all(op)


def check_all(op):
    for other, args, static in CASES.values():
        if primitive_of(other) is op:
            check_grads(partial(other, **static), args, order=1)


def fused(xp, a, b):
    """Return a^2 b."""
    return xp.multiply(xp.multiply(a, a), b)


RIGHT = (
    lambda g, y, a, b: g * a * b * 2.0,
    lambda g, y, a, b: g * a * a,
)
WRONG = {
    "sign": (
        lambda g, y, a, b: -g * a * b * 2.0,
        lambda g, y, a, b: -g * a * a,
        GradientError,
    ),
    "factor": (
        lambda g, y, a, b: g * a * b,
        lambda g, y, a, b: g * a,
        GradientError,
    ),
    "second order": (
        lambda g, y, a, b: g * a.detach() * b * 2.0,
        lambda g, y, a, b: g * a.detach() * a,
        GradientError,
    ),
    "type": (
        lambda g, y, a, b: (g * a * b * 2.0).astype("float32"),
        lambda g, y, a, b: (g * a * a).astype("float32"),
        DtypeError,
    ),
    "row for a matrix": (
        lambda g, y, a, b: (g * a * b * 2.0)[:1],
        lambda g, y, a, b: (g * a * a)[:1],
        ShapeError,
    ),
    "other shape": (
        lambda g, y, a, b: (g * a * b * 2.0).T,
        lambda g, y, a, b: (g * a * a).T,
        ShapeError,
    ),
}
ARGUMENTS = [np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]]), np.full((2, 3), 1.5)]


def made(*rules):
    op = Primitive(fused)
    op.defvjp(*rules)
    return op


def test_right_rules_pass():
    check_grads(made(*RIGHT), ARGUMENTS, order=3)


@pytest.mark.parametrize(("first", "second", "error"), WRONG.values(), ids=WRONG)
def test_wrong_rules_are_caught_in_either_argument(first, second, error):
    for rules in ((first, RIGHT[1]), (RIGHT[0], second)):
        with pytest.raises(error):
            check_grads(made(*rules), ARGUMENTS)


def test_a_rule_wrong_at_second_order_passes_the_first():
    first, second, _ = WRONG["second order"]
    check_grads(made(first, RIGHT[1]), ARGUMENTS, order=1)
    check_grads(made(RIGHT[0], second), ARGUMENTS, order=1)


def test_a_wrong_rule_is_caught_behind_other_operations():
    for name in ("type", "row for a matrix"):
        wrong = made(WRONG[name][0], RIGHT[1])
        with pytest.raises((DtypeError, ShapeError), match="fused: rule 0"):
            check_grads(lambda a, b, op=wrong: ops.exp(op(ops.sin(a), b)), ARGUMENTS)


def test_a_missing_rule_is_caught():
    with pytest.raises(GradientError, match="differences give"):
        check_grads(made(RIGHT[0], None), ARGUMENTS)


def test_a_check_without_floating_arguments_is_refused():
    with pytest.raises(GradientError, match="expected a floating-point argument"):
        check_grads(ops.negative, [np.array([1, 2])])
