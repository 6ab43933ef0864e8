"""The intrusion detector: fitted on the training file alone, on types left out."""

import json
from pathlib import Path

import numpy as np
import pytest

import sillar as sl
from benchmarks.intrusion import missed_bars
from sillar import nn
from sillar.detectors import intrusion
from sillar.detectors.nsl_kdd import FEATURES, NORMAL, TEST, TEST_21, TRAIN, Traffic
from sillar.detectors.nsl_kdd import read_nsl_kdd as read
from sillar.errors import DataError
from sillar.train.metrics import roc_auc

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "intrusion.json"


def few(traffic, step):
    """Return every step-th connection, and all that are rare."""
    kinds, counts = np.unique(traffic.kinds, return_counts=True)
    rare = np.isin(traffic.kinds, kinds[counts < 40])
    return traffic.take(np.flatnonzero(rare | (np.arange(len(rare)) % step == 0)))


@pytest.fixture(scope="module")
def known(shared_data):
    return few(read(shared_data / "nsl-kdd"), 8)


def train(x, y):
    """Return a small classifier."""
    model = nn.Sequential(nn.Dense(x.shape[1], 32), nn.ReLU(), nn.Dense(32, 2))
    data = sl.data.Dataset(x, y)
    sl.fit(model, sl.CrossEntropy(), sl.Adam(0.003), data, epochs=5, callbacks=())
    return model


def test_a_round_leaves_out_whole_types():
    kinds = np.array([NORMAL] * 50 + ["neptune"] * 30 + ["smurf"] * 9 + ["pod"] * 4)
    masks = intrusion.rounds(kinds, 5, seed=0)
    assert len(masks) == 3  # as many as there are types
    assert (np.sum(masks, axis=0) == 1).all()
    for mask in masks:
        held, kept = set(kinds[mask]), set(kinds[~mask])
        assert {NORMAL} == held & kept
    with pytest.raises(DataError, match="at least two types"):
        intrusion.rounds(kinds[:80], 5, seed=0)


def test_networks_of_a_round_see_nothing_of_what_they_score(known):
    """A canary in the held rows alone changes none of the other rows' networks."""
    few_rows = few(known, 4)
    seen = []

    def spy(x, y):
        seen.append((x.tobytes(), y.tobytes()))
        return train(x, y)

    masks = intrusion.rounds(few_rows.kinds, 3, 0)
    told = []
    intrusion.out_of_type(few_rows, spy, masks, 1, 0, told.append)
    assert [text.split(":")[0] for text in told] == [f"round {i}/3" for i in (1, 2, 3)]
    mask = masks[0]
    columns = {name: [*cells] for name, cells in few_rows.columns.items()}
    for row in np.flatnonzero(mask):
        columns["service"][row], columns["src_bytes"][row] = "canary", "1e9"
    other = Traffic(columns, few_rows.kinds)
    intrusion.out_of_type(other, spy, masks, 1, 0, told.append)
    assert seen[0] == seen[3]
    assert seen[1] != seen[4]  # where they are trained on, they count


def test_logistic_regression_is_that_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)) * [1, 5, 0.2]
    y = (x @ [1, -0.3, 2] + rng.normal(size=400) > 0.5).astype(int)
    expected = linear.LogisticRegression(C=1e3, tol=1e-10, max_iter=1000).fit(x, y)
    found = intrusion.logistic(x, y)
    np.testing.assert_allclose(found[:-1], expected.coef_[0], rtol=1e-4)
    np.testing.assert_allclose(found[-1], expected.intercept_[0], rtol=1e-4)


def test_classes_that_can_be_told_apart_have_finite_weights():
    x = np.arange(10.0)[:, None]
    found = intrusion.logistic(x, (x[:, 0] > 4).astype(int))
    assert np.isfinite(found).all()
    assert 4 < -found[1] / found[0] < 5


@pytest.fixture(scope="module")
def detector(known):
    x = intrusion.new_transform().fit(known.columns)(known.columns)
    classifier = train(x, known.attacks)
    return intrusion.complete(classifier, known, train, folds=3, epochs=20)


def test_novelty_adds_to_what_a_classifier_knows(detector, known):
    auc = {k: roc_auc(detector.labels, s) for k, s in detector.scores.items()}
    assert auc["both"] > auc["classifier"] + 0.005
    assert auc["both"] > auc["novelty"]
    assert auc["both"] > 0.98


def test_the_model_says_attack_from_the_threshold_on(detector, known):
    x = intrusion.new_transform().fit(known.columns)(known.columns)
    parts = sl.predict(detector.model[0], x).astype(float)
    weights = detector.model[1].weight.data[:, 1]
    logits = sl.predict(detector.model, x)
    assert (logits[:, 0] == 0).all()
    expected = parts @ weights + detector.model[1].bias.data[1]
    np.testing.assert_allclose(expected, logits[:, 1], atol=1e-3)
    alarms = detector.threshold(detector.scores["both"])
    labels = detector.labels
    assert detector.threshold.recall == pytest.approx(alarms[labels == 1].mean())
    cost = 10 * (labels & (1 - alarms)).sum() + (alarms & (1 - labels)).sum()
    assert detector.threshold.cost == cost
    notes = detector.notes()["threshold"]
    assert notes["value"] == 0.5
    assert "types of attack left out" in notes["reason"]


def test_the_detector_is_saved_and_loaded(detector, tmp_path):
    path = tmp_path / "model.safetensors"
    sl.save(detector.model, path, **detector.notes())
    x = np.zeros((3, detector.model[0].layers[0][0].n_in), np.float32)
    expected = sl.predict(detector.model, x)
    assert expected.tobytes() == sl.predict(sl.load(path), x).tobytes()


def test_the_kept_results_meet_the_bars_but_one():
    """Measured by `python -m benchmarks.intrusion --keep` on five seeds.

    At the threshold that was fixed before, false alarms on KDDTest+ are above 0.10,
    and the result says so.
    """
    kept = json.loads(RESULT.read_text())
    assert missed_bars(kept["median"]) == kept["missed"]
    assert len({run["seed"] for run in kept["runs"]}) == 5
    test, hard = kept["median"][TEST], kept["median"][TEST_21]
    assert test["roc_auc"] >= 0.96
    assert test["recall"] >= 0.90
    assert test["recall_at_0.10"] >= 0.90
    assert len(kept["missed"]) == 1
    assert "false_alarm_rate" in kept["missed"][0]
    assert test["accuracy"] > 0.833
    assert hard["accuracy"] > 0.685
    for run in kept["runs"]:
        rows = run[TEST]["by_type"]
        assert len(rows) == 37
        assert sum(row["unseen"] for row in rows) >= 17
    assert {"random forest", "logistic regression"} == set(kept["beside"])


def test_features_are_those_of_the_file():
    assert 41 == len(FEATURES) == len(set(FEATURES))
    assert set(intrusion.COUNTS) < set(FEATURES)
    assert TRAIN.startswith("KDDTrain+")
