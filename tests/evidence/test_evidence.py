"""Intervals, thresholds, calibration, folds, splits and baselines, held to others'."""

import math
import os
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import calibration as sk_calibration
from sklearn import linear_model, metrics, model_selection

import sillar as sl
from sillar.data import Dataset
from sillar.errors import ConfigError, DataError, ShapeError
from sillar.evidence import (
    CrossValidation,
    baselines,
    bootstrap,
    brier_score,
    calibration_curve,
    check_splits,
    choose_threshold,
    cross_validate,
    findings,
    headline,
    k_folds,
)
from sillar.evidence.cross_validation import student_tail
from sillar.train.metrics import accuracy, roc_auc
from tests.evidence import trials


def scored(n=400, share=0.2, seed=0):
    """Labels, and probabilities that know something of them."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < share).astype(int)
    return y, 1 / (1 + np.exp(-rng.normal(2.0 * y - 1.5, 1.0)))


class TestBootstrap:
    def test_equals_scipys_percentiles(self):
        y, p = scored()
        guess = (p > 0.5).astype(int)
        ours = bootstrap(accuracy, y, guess, resamples=4000)
        theirs = stats.bootstrap(
            ((y == guess).astype(float),), np.mean, method="percentile", rng=0
        ).confidence_interval
        assert ours.value == accuracy(y, guess)
        assert ours.low == pytest.approx(theirs.low, abs=0.006)
        assert ours.high == pytest.approx(theirs.high, abs=0.006)

    def test_holds_the_truth_as_often_as_it_says(self):
        rng = np.random.default_rng(1)
        held = 0
        for trial in range(120):
            right = (rng.random(200) < 0.8).astype(int)
            found = bootstrap(
                accuracy, np.ones(200, int), right, resamples=200, seed=trial
            )
            held += found.low <= 0.8 <= found.high
        assert 0.87 <= held / 120 <= 1.0

    def test_is_drawn_by_the_seed(self):
        y, p = scored(60)
        one = bootstrap(roc_auc, y, p, resamples=50, seed=3)
        assert one == bootstrap(roc_auc, y, p, resamples=50, seed=3)
        assert one != bootstrap(roc_auc, y, p, resamples=50, seed=4)

    def test_by_class_a_rare_class_is_in_every_draw(self):
        y = np.zeros(300, int)
        y[:2] = 1
        seen = []
        bootstrap(
            lambda t, s: seen.append(t.sum()) or 0.0, y, y, resamples=30, stratify=True
        )
        assert set(seen) == {2}

    def test_groups_are_drawn_whole_and_widen_the_interval(self):
        groups = np.repeat(np.arange(20), 30)
        right = (np.arange(20) % 3 > 0).astype(int)[groups]
        truth = np.ones(600, int)
        alone = bootstrap(accuracy, truth, right)
        whole = bootstrap(accuracy, truth, right, groups=groups)
        assert whole.high - whole.low > 3 * (alone.high - alone.low)

    def test_draws_without_a_value_are_left_out(self):
        y = np.array([1, 0, 0, 0])
        found = bootstrap(roc_auc, y, np.array([0.9, 0.1, 0.2, 0.3]), resamples=60)
        assert found.value == found.low == found.high == 1.0

    @pytest.mark.parametrize(
        ("kwargs", "text"),
        [
            ({"confidence": 1.0}, "confidence must be in"),
            ({"resamples": 0}, "resamples must be an integer"),
            ({"stratify": True, "groups": [1, 2]}, "not both"),
        ],
    )
    def test_refuses(self, kwargs, text):
        with pytest.raises(ConfigError, match=text):
            bootstrap(accuracy, [0, 1], [0, 1], **kwargs)

    def test_refuses_other_lengths(self):
        for target, guess, more in (
            ([], [], {}),
            ([0, 1], [0], {}),
            ([0, 1], [0, 1], {"groups": [1]}),
        ):
            with pytest.raises(ShapeError, match="bootstrap: expected"):
                bootstrap(accuracy, target, guess, **more)


class TestThreshold:
    @settings(max_examples=60, deadline=None)
    @given(
        rows=st.lists(
            st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=30
        ),
        miss=st.sampled_from([0.5, 1, 10]),
    )
    def test_is_the_cheapest_of_all_cuts(self, rows, miss):
        y, s = (np.array(part) for part in zip(*rows, strict=True))
        if len(set(y.tolist())) < 2:
            return
        found = choose_threshold(y, s, cost=(miss, 1))
        cuts = [np.inf, *np.unique(s)]
        costs = [
            miss * ((s < c) & (y == 1)).sum() + ((s >= c) & (y == 0)).sum()
            for c in cuts
        ]
        assert found.cost == min(costs)
        alarms = found(s)
        paid = miss * ((alarms == 0) & (y == 1)).sum()
        assert paid + ((alarms == 1) & (y == 0)).sum() == found.cost

    @pytest.mark.parametrize("promised", [0.5, 0.9, 0.95, 1.0])
    def test_keeps_the_recall_with_the_fewest_false_alarms(self, promised):
        y, p = scored()
        found = choose_threshold(y, p, recall=promised)
        alarms = found(p)
        assert metrics.recall_score(y, alarms) == pytest.approx(found.recall)
        assert found.recall >= promised
        rates = [
            ((p >= c) & (y == 0)).sum() / (y == 0).sum()
            for c in np.unique(p)
            if ((p >= c) & (y == 1)).sum() >= promised * y.sum() - 1e-9
        ]
        assert found.false_alarm_rate == pytest.approx(min(rates))

    @pytest.mark.parametrize("promised", [0.3, 0.7, 0.9])
    def test_keeps_the_precision_with_the_most_recall(self, promised):
        y, p = scored()
        found = choose_threshold(y, p, precision=promised)
        assert metrics.precision_score(y, found(p)) == pytest.approx(found.precision)
        assert found.precision >= promised
        recalls = [
            metrics.recall_score(y, p >= c)
            for c in np.unique(p)
            if metrics.precision_score(y, p >= c) >= promised
        ]
        assert found.recall == pytest.approx(max(recalls))

    def test_says_why(self):
        y, p = scored()
        assert "recall >= 0.9" in choose_threshold(y, p, recall=0.9).reason
        assert "a miss at 10" in choose_threshold(y, p, cost=(10, 1)).reason

    @pytest.mark.parametrize(
        ("kwargs", "text"),
        [
            ({}, "expected one of"),
            ({"recall": 0.9, "cost": (1, 1)}, "expected one of"),
            ({"recall": 0}, "recall must be in"),
            ({"precision": 1.5}, "precision must be in"),
            ({"cost": (0, 1)}, "two positive numbers"),
            ({"cost": 3}, "two positive numbers"),
            ({"cost": (1, math.nan)}, "two positive numbers"),
        ],
    )
    def test_refuses(self, kwargs, text):
        with pytest.raises(ConfigError, match=text):
            choose_threshold([0, 1], [0.1, 0.9], **kwargs)

    def test_refuses_one_class_and_impossible_promises(self):
        with pytest.raises(DataError, match="examples of both classes"):
            choose_threshold([1, 1], [0.1, 0.9], recall=0.5)
        with pytest.raises(DataError, match=r"the best is 0\.5000"):
            choose_threshold([1, 0], [0.5, 0.5], precision=0.9)


class TestCalibration:
    @pytest.mark.parametrize("strategy", ["uniform", "quantile"])
    @pytest.mark.parametrize("bins", [1, 5, 10])
    def test_equals_scikit_learns(self, strategy, bins):
        y, p = scored()
        theirs = sk_calibration.calibration_curve(y, p, n_bins=bins, strategy=strategy)
        ours = calibration_curve(y, p, bins=bins, strategy=strategy)
        np.testing.assert_allclose(ours.observed, theirs[0])
        np.testing.assert_allclose(ours.predicted, theirs[1])
        assert ours.counts.sum() == len(y)
        assert brier_score(y, p) == pytest.approx(metrics.brier_score_loss(y, p))

    def test_bounds_are_wilsons_and_few_rows_are_never_sure(self):
        y, p = scored()
        found = calibration_curve(y, p)
        low, high = found.interval(stats.norm.ppf(0.975))
        hits = np.rint(found.observed * found.counts).astype(int)
        for i, (hit, n) in enumerate(zip(hits, found.counts, strict=True)):
            theirs = stats.binomtest(int(hit), int(n)).proportion_ci(method="wilson")
            assert (low[i], high[i]) == pytest.approx((theirs.low, theirs.high))
        low, high = calibration_curve([1, 1], [0.95, 0.97]).interval()
        assert low[0] < 0.5
        assert high[0] == 1

    def test_the_error_is_the_mean_gap(self):
        y = np.array([1, 0, 1, 1])
        found = calibration_curve(y, [0.9, 0.9, 0.2, 0.2], bins=2)
        assert found.error == pytest.approx((0.4 + 0.8) / 2)

    def test_refuses(self):
        with pytest.raises(DataError, match=r"in \[0, 1\]"):
            calibration_curve([0, 1], [-3.0, 2.0])
        with pytest.raises(ConfigError, match="bins must be"):
            calibration_curve([0, 1], [0.1, 0.2], bins=0)
        with pytest.raises(ConfigError, match="strategy must be"):
            calibration_curve([0, 1], [0.1, 0.2], strategy="equal")


class TestFolds:
    @pytest.mark.parametrize("kind", ["plain", "stratify", "groups"])
    def test_every_row_is_tested_once(self, kind):
        keys = np.random.default_rng(0).integers(0, 11, 97)
        more = {} if kind == "plain" else {kind: keys}
        tested = []
        for train, test in k_folds(97, 4, **more):
            assert np.array_equal(np.sort([*train, *test]), np.arange(97))
            tested += test.tolist()
            if kind == "groups":
                assert not set(keys[train]) & set(keys[test])
            elif kind == "plain":
                assert len(test) in (24, 25)
        assert sorted(tested) == list(range(97))

    def test_classes_are_dealt_evenly(self):
        y = np.repeat([0, 1, 2], [50, 31, 8])
        for _, test in k_folds(89, 4, stratify=y):
            counts = np.bincount(y[test], minlength=3)
            assert np.abs(counts - np.array([50, 31, 8]) / 4).max() < 1

    def test_groups_are_of_even_size_as_scikit_learns(self):
        groups = np.random.default_rng(0).integers(0, 30, 400)
        ours = [len(test) for _, test in k_folds(400, 5, groups=groups)]
        split = model_selection.GroupKFold(5).split(groups, groups=groups)
        assert sorted(ours) == sorted(len(test) for _, test in split)

    def test_time_goes_forward_and_moments_stay_together(self):
        times = np.random.default_rng(0).integers(0, 40, 200)
        folds = list(k_folds(200, 4, times=times))
        assert len(folds) == 4
        for train, test in folds:
            assert len(train)
            assert len(test)
            assert times[train].max() < times[test].min()
        tested = np.concatenate([test for _, test in folds])
        assert len(set(tested.tolist())) == len(tested)
        assert times[tested].max() == times.max()

    def test_time_with_as_few_moments_as_can_be(self):
        times = np.array([0, 0, 0, 0, 0, 0, 0, 1, 2])
        folds = list(k_folds(9, 2, times=times))
        assert [test.tolist() for _, test in folds] == [[7], [8]]

    def test_is_drawn_by_the_seed(self):
        one, same, other = (
            [test.tolist() for _, test in k_folds(30, 3, seed=s)] for s in (1, 1, 2)
        )
        assert one == same != other

    @pytest.mark.parametrize(
        ("n", "folds", "more", "error", "text"),
        [
            (5, 1, {}, ConfigError, "from 2 to the 5 rows"),
            (5, 6, {}, ConfigError, "from 2 to the 5 rows"),
            (4, 2, {"stratify": [0, 0, 0, 1]}, DataError, "rows of every class"),
            (4, 3, {"groups": [0, 0, 1, 1]}, DataError, "at least 3 groups"),
            (4, 2, {"times": [0, 0, 1, 1]}, DataError, "3 different times"),
            (4, 2, {"times": [0, 0, 1]}, ShapeError, "expected times"),
            (2, 2, {"times": [0, 1], "groups": [0, 1]}, ConfigError, "expected one of"),
        ],
    )
    def test_refuses(self, n, folds, more, error, text):
        with pytest.raises(error, match=text):
            list(k_folds(n, folds, **more))


class TestCrossValidation:
    def dataset(self, n=120):
        y = np.arange(n) % 2
        x = np.random.default_rng(0).normal(y[:, None], 1.0, (n, 3)).astype("float32")
        return Dataset(x, y)

    def test_processes_give_what_this_one_gives(self):
        data, folds = self.dataset(), list(k_folds(120, 3))
        here = cross_validate(trials.nearest_mean, data, folds)
        there = cross_validate(trials.nearest_mean, data, folds, workers=2)
        assert here.scores["accuracy"] == there.scores["accuracy"]
        assert here.scores["fold"] == there.scores["fold"] == [0.0, 1.0, 2.0]
        assert os.getpid() not in there.scores["pid"]
        assert here.sizes == [(80, 40)] * 3
        values = here.scores["accuracy"]
        assert here.mean("accuracy") == pytest.approx(np.mean(values))
        assert here.deviation("accuracy") == pytest.approx(np.std(values, ddof=1))

    def test_a_trial_cannot_see_what_it_is_tested_on(self):
        data = Dataset(np.arange(40.0)[:, None], np.zeros(40, int))
        found = cross_validate(trials.canary, data, k_folds(40, 4))
        assert found.scores["leaked"] == [0.0] * 4

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_fold_that_fails_says_so(self, workers):
        with pytest.raises(ArithmeticError, match="fold 1 cannot be fitted"):
            cross_validate(
                trials.broken, self.dataset(), k_folds(120, 3), workers=workers
            )

    def test_the_paired_test_is_nadeaus_and_bengios(self):
        rng = np.random.default_rng(0)
        one, other = rng.normal(0.8, 0.02, 10), rng.normal(0.78, 0.02, 10)
        sizes = [(90, 10)] * 10
        a, b = (CrossValidation({"f1": v.tolist()}, sizes) for v in (one, other))
        gap, p = a.against(b, "f1")
        d = one - other
        t = d.mean() / math.sqrt((1 / 10 + 10 / 90) * d.var(ddof=1))
        assert gap == pytest.approx(d.mean())
        assert p == pytest.approx(2 * stats.t.sf(abs(t), 9))
        assert a.against(a, "f1") == (0.0, 1.0)

    @pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 29, 100])
    def test_students_tail(self, freedom):
        for t in (0.0, 0.3, 1.0, 2.5, 8.0):
            expected = 2 * stats.t.sf(t, freedom)
            assert student_tail(t, freedom) == pytest.approx(expected, abs=1e-13)

    def test_refuses(self):
        data = self.dataset()
        with pytest.raises(ConfigError, match="expected folds, got none"):
            cross_validate(trials.canary, data, [])
        with pytest.raises(ConfigError, match="workers must be"):
            cross_validate(trials.canary, data, k_folds(120, 2), workers=-1)
        one = CrossValidation({"f1": [0.5, 0.6]}, [(5, 5)] * 2)
        with pytest.raises(ConfigError, match="same folds"):
            one.against(CrossValidation({"f1": [0.5, 0.6]}, [(8, 2)] * 2), "f1")
        with pytest.raises(ConfigError, match="no metric 'auc'"):
            one.mean("auc")
        single = CrossValidation({"f1": [0.5]}, [(5, 5)])
        with pytest.raises(ConfigError, match="two folds or more"):
            single.against(single, "f1")


class TestSplits:
    def parts(self):
        x = np.random.default_rng(0).normal(size=(30, 4)).astype("float32")
        return {"train": x[:20].copy(), "validation": x[20:25], "test": x[25:]}

    def test_parts_that_are_apart_pass(self):
        shares = check_splits(self.parts())
        assert shares == {
            "validation in train": 0.0,
            "test in train": 0.0,
            "test in validation": 0.0,
        }

    def test_a_copied_row_is_found(self):
        parts = self.parts()
        parts["train"][7] = parts["test"][3]
        with pytest.raises(DataError, match="1 of 5 rows of test that are in train"):
            check_splits(parts)
        assert check_splits(parts, allowed=0.2)["test in train"] == 0.2

    def test_minus_zero_is_zero_and_text_is_compared(self):
        with pytest.raises(DataError, match="rows of b that are in a"):
            check_splits({"a": np.zeros((1, 2)), "b": -np.zeros((1, 2))})
        words = np.array([["tcp", "http"]])
        with pytest.raises(DataError, match="rows of b that are in a"):
            check_splits({"a": words, "b": words})
        longer = np.array([["tcp", "telnet"], ["tcp", "http"]])
        with pytest.raises(DataError, match="1 of 2 rows of b that are in a too"):
            check_splits({"a": words, "b": longer})

    def test_a_time_or_group_that_nobody_knows_passes_no_check(self):
        for key in ([np.nan] * 5, np.array(["NaT"] * 5, "M8[s]")):
            first = np.arange(20).astype(np.asarray(key).dtype)
            keys = {"train": first, "validation": key, "test": key}
            for what in ("times", "groups"):
                with pytest.raises(DataError, match="that are known, got 5 missing"):
                    check_splits(self.parts(), **{what: keys})
                with pytest.raises(DataError, match="5 missing, as in row 0"):
                    next(k_folds(5, 2, **{what: key}))

    def test_rows_that_stay_in_their_file_are_looked_at(self, tmp_path):
        x = np.random.default_rng(0).normal(size=(40, 3))
        np.save(tmp_path / "x.npy", x)
        data = sl.data.Dataset(sl.data.open_npy(tmp_path / "x.npy"), x[:, 0] > 0)
        train, test = data[:30], data[30:]
        assert check_splits({"train": train.x, "test": test.x})
        with pytest.raises(DataError, match="10 of 10 rows"):
            check_splits({"all": data.x, "test": test.x})
        in_memory = sl.data.Dataset(x[:30], train.y), sl.data.Dataset(x[30:], test.y)
        for stored, usual in zip(
            baselines(train, test), baselines(*in_memory), strict=True
        ):
            np.testing.assert_array_equal(stored.scores, usual.scores)

    def test_groups_that_straddle(self):
        groups = {"train": np.arange(20), "validation": [90] * 5, "test": [3] * 5}
        with pytest.raises(DataError, match="1 groups in both train and test: 3"):
            check_splits(self.parts(), groups=groups)

    def test_the_future_in_the_training_part(self):
        times = {"train": np.arange(20), "validation": [20] * 5, "test": [18] * 5}
        with pytest.raises(DataError, match="2 rows of train not before the first of"):
            check_splits(self.parts(), times=times)
        times["test"] = [21] * 5
        check_splits(self.parts(), times=times)

    def test_refuses(self):
        parts = self.parts()
        with pytest.raises(ConfigError, match="two parts or more"):
            check_splits({"train": parts["train"]})
        with pytest.raises(ShapeError, match="expected rows in test"):
            check_splits(parts | {"test": np.zeros((0, 4))})
        with pytest.raises(ShapeError, match="rows of one kind"):
            check_splits(parts | {"test": np.zeros((2, 3), "float32")})
        with pytest.raises(ShapeError, match="expected groups"):
            check_splits(parts, groups={"train": [1]})


class TestBaselines:
    def test_equal_what_scikit_learn_and_a_count_say(self):
        train, test = sl.data.digits().split(0.3, seed=0)
        majority, rule, logistic = baselines(train, test)
        assert majority.name == "majority"
        shares = np.bincount(train.y) / len(train)
        np.testing.assert_allclose(majority.scores[0], shares)
        oracle = linear_model.LogisticRegression(max_iter=2000)
        x, z = (part.x.reshape(len(part), -1) for part in (train, test))
        theirs = oracle.fit(x, train.y).score(z, test.y)
        ours = logistic.metrics(test.y)
        assert ours["accuracy"] == pytest.approx(theirs, abs=0.015)
        assert ours["roc_auc"] > 0.99
        assert 0.12 < rule.metrics(test.y)["accuracy"] < 0.3

    def test_one_rule_finds_the_column_and_the_cut(self):
        x = np.random.default_rng(0).normal(size=(300, 5))
        data = Dataset(x, (x[:, 3] > 0.5).astype(int))
        _, rule, _ = baselines(data, data)
        assert rule.note.startswith("column 3 <= ")
        assert float(rule.note.split()[-1]) == pytest.approx(0.5, abs=0.1)
        assert rule.metrics(data.y)["accuracy"] > 0.97

    def test_a_constant_column_and_one_class_do_no_harm(self):
        data = Dataset(np.ones((20, 2)), np.zeros(20, int))
        for baseline in baselines(data, data):
            assert baseline.metrics(data.y)["accuracy"] == 1.0
            assert np.isfinite(baseline.scores).all()

    def test_are_drawn_by_the_seed(self):
        train, test = sl.data.digits().split(0.3, seed=0)
        one, same = (baselines(train, test, seed=5)[2].scores for _ in range(2))
        assert np.array_equal(one, same)

    def test_accuracy_is_not_the_headline_of_a_rare_class(self):
        assert headline(0.049) == "pr_auc"
        assert headline(0.05) == "accuracy"

    def test_refuses_several_labels_for_a_row_and_empty_sets(self):
        pairs = Dataset(np.ones((4, 2)), np.ones((4, 2), int))
        with pytest.raises(DataError, match="one class number or value for each row"):
            baselines(pairs, pairs)
        empty = Dataset(np.ones((0, 2)), np.zeros(0, int))
        with pytest.raises(DataError, match="has no examples"):
            baselines(empty, empty)


def test_baselines_of_values_are_the_mean_and_least_squares():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)).astype("float32")
    y = (x @ [1.0, -2.0, 0.0, 0.5] + 3 + 0.1 * rng.normal(size=300)).astype("float32")
    train, test = Dataset(x[:200], y[:200]), Dataset(x[200:], y[200:])
    mean, line = baselines(train, test)
    assert mean.scores == pytest.approx(y[:200].mean(), rel=1e-5)
    expected = linear_model.LinearRegression().fit(x[:200], y[:200]).predict(x[200:])
    np.testing.assert_allclose(line.scores, expected, atol=1e-3)
    assert mean.metrics(test.y)["r2"] < 0.05
    assert line.metrics(test.y)["r2"] > 0.98
    pairs = (Dataset(p.x, np.stack([p.y] * 2, 1)) for p in (train, test))
    two = baselines(*pairs)
    assert [b.scores.shape for b in two] == [(100, 2), (100, 2)]


@pytest.mark.parametrize("wrong", [-1, 10**9])
def test_class_numbers_of_baselines_are_counted_from_zero(wrong):
    x = np.arange(8.0)[:, None]
    train = sl.data.Dataset(x, np.array([0, 1] * 3 + [0, wrong]))
    with pytest.raises(DataError, match="number the classes from 0"):
        baselines(train, train[:4])


def test_baselines_look_at_no_more_rows_than_they_have_time_for(monkeypatch):
    module = sys.modules["sillar.evidence.baselines"]
    monkeypatch.setattr(module, "LARGEST", 100)
    rows = Dataset(np.arange(400.0)[:, None].repeat(2, 1), np.arange(400) % 2)
    assert len(module.few(rows)) == 50
    seen = []
    monkeypatch.setattr(module, "_one_rule", lambda x, *rest: seen.append(len(x)))
    baselines(rows, rows)
    assert seen == [50]


def test_scores_by_class_have_intervals_of_their_own():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    p = np.eye(4)[np.where(rng.random(300) < 0.7, y, rng.integers(0, 3, 300))]
    part = findings.Tested(
        y, p
    )  # of the fourth class there is no row, and none is predicted
    found = findings.class_intervals(part)
    assert len(found) == 4
    for name in ("precision", "recall", "f1"):
        theirs = getattr(metrics, f"{name}_score")
        for c, expected in enumerate(theirs(y, part.guesses, average=None)):
            interval = found[c][name]
            assert interval.value == pytest.approx(expected)
            assert interval.low < interval.value < interval.high
    alone = bootstrap(
        lambda true, guess: metrics.recall_score(true, guess, average=None)[1],
        *(y, part.guesses),
        **{"resamples": findings.RESAMPLES, "stratify": True},
    )
    assert found[1]["recall"] == pytest.approx(alone)
    assert (
        findings.with_intervals({"class": "x", "f1": 0.0}, found[3])["f1, 95 %"] == ""
    )
    row = findings.with_intervals({"class": "x", "recall": 1.0, "support": 3}, found[0])
    assert list(row) == ["class", "recall", "recall, 95 %", "support"]
