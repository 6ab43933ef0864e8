"""Metrics against scikit-learn, and against hand-counted cases where it differs."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sillar.errors import ConfigError, DataError, DtypeError, ShapeError
from sillar.train import metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics")

TOLERANCE = 1e-12
MEASURES = ["precision", "recall", "f1"]
AVERAGES = ["macro", "micro", "weighted", None]
ZERO_DIVISIONS = [0.0, 1.0, math.nan]
quick = settings(max_examples=30, deadline=None)


def reference(name, *args, **kwargs):
    """Return scikit-learn's answer without its warnings about undefined values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(sklearn_metrics, name)(*args, **kwargs)


def assert_close(expected, actual):
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)


def label_pairs(n_classes=5):
    label = st.integers(0, n_classes - 1)
    return st.lists(st.tuples(label, label), min_size=1, max_size=40).map(
        lambda rows: tuple(np.array(rows).T)
    )


def ranked_pairs():
    """Binary targets with scores from few values, so that ties are common."""
    score = st.one_of(
        st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1.0]), st.floats(-1e6, 1e6, width=32)
    )
    row = st.tuples(st.integers(0, 1), score)
    return st.lists(row, min_size=1, max_size=40).map(
        lambda rows: (np.array([r[0] for r in rows]), np.array([r[1] for r in rows]))
    )


def random_scores(n=60, n_classes=4, decimals=1, seed=0):
    """Probabilities with many ties, and targets in which every class occurs."""
    rng = np.random.default_rng(seed)
    scores = rng.random((n, n_classes)).round(decimals) + 0.1
    target = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n)])[:n]
    return target, scores / scores.sum(axis=1, keepdims=True)


# Labels ------------------------------------------------------------------------------


@quick
@given(label_pairs())
def test_confusion_matrix_and_accuracy_equal_scikit_learn(pair):
    expected = reference("confusion_matrix", *pair, labels=range(5))
    actual = metrics.confusion_matrix(*pair, n_classes=5)
    np.testing.assert_array_equal(actual, expected, strict=True)
    assert_close(reference("accuracy_score", *pair), metrics.accuracy(*pair))


@pytest.mark.parametrize("zero_division", ZERO_DIVISIONS)
@pytest.mark.parametrize("measure", MEASURES)
@quick
@given(label_pairs())
def test_averages_equal_scikit_learn(measure, zero_division, pair):
    for average in AVERAGES:
        options = {"average": average, "zero_division": zero_division}
        labels = range(5) if average is None else None
        expected = reference(f"{measure}_score", *pair, labels=labels, **options)
        actual = getattr(metrics, measure)(*pair, n_classes=5, **options)
        assert_close(expected, actual)


@pytest.mark.parametrize("zero_division", ZERO_DIVISIONS)
@pytest.mark.parametrize("measure", MEASURES)
@quick
@given(label_pairs(2))
def test_binary_average_equals_scikit_learn(measure, zero_division, pair):
    options = {"average": "binary", "zero_division": zero_division}
    expected = reference(f"{measure}_score", *pair, **options)
    assert_close(expected, getattr(metrics, measure)(*pair, **options))


@pytest.mark.parametrize("measure", MEASURES)
def test_macro_is_the_default_and_skips_classes_that_do_not_occur(measure):
    target, predicted = [0, 0, 4, 4], [0, 4, 4, 4]
    expected = reference(f"{measure}_score", target, predicted, average="macro")
    score = getattr(metrics, measure)
    assert_close(expected, score(target, predicted))
    assert_close(expected, score(target, predicted, n_classes=9))
    assert score(target, predicted, average=None).shape == (5,)
    assert score(target, predicted, average=None).dtype == np.float64


@pytest.mark.parametrize("measure", MEASURES)
def test_a_zero_divisor_counts_as_zero_by_default(measure):
    actual = getattr(metrics, measure)([0, 0], [1, 1], average=None, n_classes=3)
    np.testing.assert_array_equal(actual, [0.0, 0.0, 0.0])


def test_confusion_matrix_has_targets_in_rows():
    actual = metrics.confusion_matrix([0, 1, 1, 3], [0, 0, 1, 1])
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert actual.tolist() == expected
    assert actual.dtype == np.int64


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "uint64", "float16"])
def test_labels_of_any_real_type_and_as_a_column_are_read(dtype):
    target = np.array([0, 2, 1, 2], dtype)
    predicted = np.array([[0], [1], [1], [2]], dtype)
    assert metrics.accuracy(target, predicted) == 0.75
    assert metrics.accuracy(np.array([True, False]), np.array([1.0, 1.0])) == 0.5


# Ranking -----------------------------------------------------------------------------


@quick
@given(ranked_pairs())
def test_curves_equal_scikit_learn(pair):
    for actual, expected in zip(
        metrics.roc_curve(*pair), reference("roc_curve", *pair), strict=True
    ):
        assert_close(expected, actual)
        assert actual.dtype == np.float64
    precision, recall, thresholds = metrics.precision_recall_curve(*pair)
    expected = reference("precision_recall_curve", *pair)
    assert_close(expected[0], precision)
    assert_close(expected[2], thresholds)
    if pair[0].any():
        assert_close(expected[1], recall)
    else:
        assert np.isnan(recall[:-1]).all()
        assert recall[-1] == 0.0


@quick
@given(ranked_pairs())
def test_binary_areas_equal_scikit_learn(pair):
    assert_close(reference("roc_auc_score", *pair), metrics.roc_auc(*pair))
    if pair[0].any():
        expected = reference("average_precision_score", *pair)
        assert_close(expected, metrics.pr_auc(*pair))
    else:
        assert math.isnan(metrics.pr_auc(*pair))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_areas_do_not_depend_on_score_type_order_or_layout(dtype):
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 300)
    scores = rng.integers(0, 50, 300).astype(dtype)
    shuffled = rng.permutation(300)
    column = scores[shuffled, None]
    for name, peer in [
        ("roc_auc", "roc_auc_score"),
        ("pr_auc", "average_precision_score"),
    ]:
        expected = reference(peer, target, scores.astype("float64"))
        area = getattr(metrics, name)
        assert_close(expected, area(target, scores))
        assert_close(expected, area(target[shuffled, None], column))
        assert_close(expected, area(target, np.stack([-scores, scores], axis=1)))


@pytest.mark.parametrize("n_classes", [3, 4, 7])
@pytest.mark.parametrize("decimals", [1, 12])
def test_areas_of_several_classes_equal_scikit_learn(n_classes, decimals):
    target, scores = random_scores(90, n_classes, decimals)
    expected = reference("roc_auc_score", target, scores, multi_class="ovr")
    assert_close(expected, metrics.roc_auc(target, scores))
    expected = reference("average_precision_score", target, scores)
    assert_close(expected, metrics.pr_auc(target, scores))


def test_an_absent_class_makes_areas_nan():
    scores = np.full((3, 3), 1 / 3)
    assert math.isnan(metrics.roc_auc([0, 1, 0], scores))
    assert math.isnan(metrics.pr_auc([0, 1, 0], scores))
    assert math.isnan(metrics.roc_auc([1, 1], [0.1, 0.2]))
    assert metrics.pr_auc([1, 1], [0.1, 0.2]) == 1.0


# Report ------------------------------------------------------------------------------


def test_report_gathers_what_scikit_learn_computes():
    target, scores = random_scores()
    guess = scores.argmax(axis=1)
    report = metrics.classification_report(target, scores, classes=list("abcd"))
    assert report["samples"] == 60
    assert_close(reference("accuracy_score", target, guess), report["accuracy"])
    for measure in MEASURES:
        for average in ("micro", "macro", "weighted"):
            options = {"average": average, "zero_division": 0.0}
            expected = reference(f"{measure}_score", target, guess, **options)
            assert_close(expected, report[f"{measure}_{average}"])
    columns = reference("precision_recall_fscore_support", target, guess)
    rows = [[row[key] for row in report["per_class"]] for key in (*MEASURES, "support")]
    assert_close(np.array(columns), np.array(rows))
    assert [row["class"] for row in report["per_class"]] == list("abcd")
    expected = reference("confusion_matrix", target, guess).tolist()
    assert report["confusion_matrix"] == expected
    expected = reference("roc_auc_score", target, scores, multi_class="ovr")
    assert_close(expected, report["roc_auc"])
    expected = reference("average_precision_score", target, scores)
    assert_close(expected, report["pr_auc"])
    assert report["undefined"] == {}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_report_of_logits_is_the_report_of_their_probabilities(dtype):
    rng = np.random.default_rng(5)
    logits = (rng.normal(size=(80, 3)) * 3).astype(dtype)
    target = rng.integers(0, 3, 80)
    exponent = np.exp(logits.astype("float64"))
    probabilities = exponent / exponent.sum(axis=1, keepdims=True)
    expected = metrics.classification_report(target, probabilities)
    actual = metrics.classification_report(target, logits)
    assert actual.keys() == expected.keys()
    assert_close(expected["roc_auc"], actual["roc_auc"])
    assert_close(expected["pr_auc"], actual["pr_auc"])
    assert actual["confusion_matrix"] == expected["confusion_matrix"]


def test_report_of_huge_logits_is_finite():
    logits = np.array([[1e308, -1e308], [-1e4, 1e4], [0.0, -1e308]])
    report = metrics.classification_report([0, 1, 0], logits)
    assert (report["accuracy"], report["roc_auc"], report["pr_auc"]) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("scores", "logits", "expected"),
    [
        ([0.2, 0.6, 0.5], None, [[2, 0], [0, 1]]),  # probabilities: above 1/2
        ([0.2, 0.6, 0.5], False, [[2, 0], [0, 1]]),
        ([0.2, 0.6, 0.5], True, [[0, 2], [0, 1]]),  # logits: above 0
        ([-2.0, 0.2, 0.0], None, [[2, 0], [0, 1]]),
        ([[-2.0], [0.2], [0.0]], None, [[2, 0], [0, 1]]),
    ],
)
def test_report_of_one_column_splits_at_the_middle(scores, logits, expected):
    report = metrics.classification_report([0, 1, 0], scores, logits=logits)
    assert report["confusion_matrix"] == expected
    assert report["roc_auc"] == 1.0
    assert [row["class"] for row in report["per_class"]] == ["0", "1"]


def test_report_says_why_an_area_is_missing():
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    report = metrics.classification_report([0, 1], scores, ("cat", "dog", "emu"))
    assert report["roc_auc"] is None
    assert report["pr_auc"] is None
    reason = "no example of class emu among the targets"
    assert report["undefined"] == {"roc_auc": reason, "pr_auc": reason}
    assert (report["accuracy"], report["f1_macro"]) == (1.0, 1.0)


@pytest.mark.parametrize("scores", [[0.3], [[-1.0, 2.0]], [[0.1, 0.2, 0.7]]])
def test_report_is_json_of_plain_numbers_even_for_one_example(scores):
    report = metrics.classification_report(np.array([1]), np.array(scores, "float32"))
    assert json.loads(json.dumps(report, allow_nan=False)) == report


# Regression --------------------------------------------------------------------------

PEERS = {
    "mean_squared_error": "mean_squared_error",
    "mean_absolute_error": "mean_absolute_error",
    "r2": "r2_score",
}
grid = st.integers(-64, 64).map(lambda v: v / 8.0)  # sums of these are exact
shapes = st.one_of(
    st.tuples(st.integers(1, 9)), st.tuples(st.integers(1, 9), st.integers(1, 4))
)


@pytest.mark.parametrize("name", PEERS)
@quick
@given(st.data())
def test_regression_equals_scikit_learn(name, data):
    shape = data.draw(shapes)
    target = data.draw(hnp.arrays("float64", shape, elements=grid))
    predicted = data.draw(hnp.arrays("float64", shape, elements=grid))
    expected = reference(PEERS[name], target, predicted)
    actual = getattr(metrics, name)(target, predicted)
    assert isinstance(actual, float)
    assert_close(expected, actual)


@pytest.mark.parametrize("name", PEERS)
def test_regression_of_float32_is_summed_in_float64_and_columns_match(name):
    rng = np.random.default_rng(0)
    target = rng.normal(1e3, 1.0, 500).astype("float32")
    predicted = target + rng.normal(size=500).astype("float32")
    score = getattr(metrics, name)
    expected = reference(PEERS[name], target.astype(float), predicted.astype(float))
    assert_close(expected, score(target, predicted))
    assert score(target, predicted) == score(target[:, None], predicted)


def test_r2_of_a_constant_target_is_zero_or_one_whatever_the_rounding():
    assert metrics.r2([0.1] * 3, [0.1, 0.1, 0.2]) == 0.0
    assert metrics.r2([0.1] * 3, [0.1] * 3) == 1.0
    assert math.isnan(metrics.r2([1.0], [1.0]))
    assert math.isnan(metrics.r2(1.0, 1.0))


# Errors ------------------------------------------------------------------------------

LABEL_METRICS = ["confusion_matrix", "accuracy", *MEASURES]
SCORE_METRICS = [
    "roc_curve",
    "precision_recall_curve",
    "roc_auc",
    "pr_auc",
    "classification_report",
]
ALL = [*LABEL_METRICS, *SCORE_METRICS, *PEERS]


@pytest.mark.parametrize("name", ALL)
def test_unequal_lengths_are_refused(name):
    with pytest.raises(ShapeError, match=f"{name}.*; pass one prediction per target"):
        getattr(metrics, name)([0, 1, 1], [0, 1])


@pytest.mark.parametrize("name", ALL)
def test_empty_input_is_refused(name):
    with pytest.raises(DataError, match=f"{name}: .* is empty, .*at least one"):
        getattr(metrics, name)([], [])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [*SCORE_METRICS, *PEERS])
def test_scores_that_are_not_finite_are_refused(name, value):
    message = f"{name}: .* has 1 NaN or infinite values of 2"
    with pytest.raises(DataError, match=message):
        getattr(metrics, name)([0, 1], [0.5, value])


@pytest.mark.parametrize("wrong", [-1, 0.5, math.nan, math.inf, 2**31])
@pytest.mark.parametrize("name", [*LABEL_METRICS, *SCORE_METRICS])
def test_targets_that_are_no_class_index_are_refused(name, wrong):
    with pytest.raises(DataError, match=f"{name}: target must be class indices 0, 1"):
        getattr(metrics, name)([0, wrong], [0, 1])


@pytest.mark.parametrize("name", SCORE_METRICS)
def test_targets_beyond_the_classes_are_refused(name):
    with pytest.raises(DataError, match=rf"{name}: labels must be in \[0, 2\).*got 2"):
        getattr(metrics, name)([0, 2], [0.5, 0.1])


@pytest.mark.parametrize("name", ["confusion_matrix", *MEASURES])
def test_labels_beyond_n_classes_are_refused(name):
    metric = getattr(metrics, name)
    with pytest.raises(DataError, match=rf"{name}: labels must be in \[0, 3\).*got 3"):
        metric([0, 1], [0, 3], n_classes=3)
    with pytest.raises(ConfigError, match="n_classes must be at least 1, got 0"):
        metric([0, 1], [0, 3], n_classes=0)


@pytest.mark.parametrize("name", LABEL_METRICS)
def test_label_matrices_and_names_are_refused(name):
    metric = getattr(metrics, name)
    with pytest.raises(ShapeError, match=r"predicted \(n,\).*got \(2, 2\).*argmax"):
        metric([0, 1], [[0.1, 0.9], [0.8, 0.2]])
    with pytest.raises(DtypeError, match="target, got <U3; encode class names"):
        metric(["cat", "dog"], [0, 1])


@pytest.mark.parametrize("name", SCORE_METRICS)
def test_scores_of_a_wrong_kind_are_refused(name):
    metric = getattr(metrics, name)
    with pytest.raises(DtypeError, match=f"{name}: expected real numbers as scores"):
        metric([0, 1], [0.5, 1j])
    with pytest.raises(ShapeError, match=f"{name}: expected .*got"):
        metric([0, 1], np.zeros((2, 2, 2)))


@pytest.mark.parametrize("name", ["roc_curve", "precision_recall_curve"])
def test_a_curve_takes_one_score_per_example(name):
    with pytest.raises(ShapeError, match="one class against the rest"):
        getattr(metrics, name)([0, 1], np.zeros((2, 3)))


@pytest.mark.parametrize("measure", MEASURES)
def test_averaging_options_are_checked(measure):
    metric = getattr(metrics, measure)
    with pytest.raises(ConfigError, match=f"{measure}: average must be one of"):
        metric([0, 1], [0, 1], average="mean")
    with pytest.raises(ConfigError, match="is for 2 classes, got 3; use 'macro'"):
        metric([0, 2], [0, 1], average="binary")
    with pytest.raises(ConfigError, match=r"zero_division must be 0.0, 1.0 or nan"):
        metric([0, 1], [0, 1], zero_division="warn")


def test_report_needs_a_name_for_every_class():
    with pytest.raises(ConfigError, match=r"expected 3 class names .* got 2"):
        metrics.classification_report([0, 1], np.eye(3)[:2], classes=["a", "b"])
