"""Estimators of scikit-learn: its own checks, its tools, and what it reaches itself."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_digits, make_classification
from sklearn.metrics import recall_score
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import sillar as sl
from sillar import nn
from sillar.errors import ConfigError, ShapeError
from sillar.interop.sklearn import SillarClassifier, SillarRegressor
from sillar.train import Callback


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return train_test_split(x / 16, y, test_size=0.3, random_state=0)


@pytest.mark.filterwarnings("ignore")  # scikit-learn's checks provoke its own
@pytest.mark.parametrize("kind", [SillarClassifier, SillarRegressor])
def test_the_checks_of_scikit_learn(kind):
    found = check_estimator(kind(epochs=100), on_fail=None, on_skip=None)
    bad = {c["check_name"]: c["exception"] for c in found if c["status"] != "passed"}
    bad.pop("check_array_api_input", None)  # needs a setting of SciPy's
    assert bad == {}
    assert len(found) > 50


def test_accuracy_is_that_of_scikit_learn(digits):
    x, x_test, y, y_test = digits
    settings = {"random_state": 0, "early_stopping": True}
    ours = SillarClassifier(**settings).fit(x, y).score(x_test, y_test)
    theirs = MLPClassifier(**settings).fit(x, y).score(x_test, y_test)
    assert ours > theirs - 0.01
    assert ours > 0.95


def test_a_regression_is_that_of_scikit_learn():
    x, y = load_diabetes(return_X_y=True)
    x, y = StandardScaler().fit_transform(x), (y - y.mean()) / y.std()
    settings = {"random_state": 0, "early_stopping": True}
    ours = cross_val_score(SillarRegressor(**settings), x, y, cv=3).mean()
    theirs = cross_val_score(MLPRegressor(**settings), x, y, cv=3).mean()
    assert ours > theirs - 0.05
    assert ours > 0.35


def test_several_targets_have_the_shape_that_they_came_in():
    x = np.random.default_rng(0).normal(size=(80, 3))
    y = x @ np.array([[1.0, -1.0], [0.5, 0.0], [0.0, 2.0]])
    model = SillarRegressor(lr=0.01, random_state=0).fit(x, y)
    assert model.predict(x).shape == y.shape
    assert model.score(x, y) > 0.95
    assert model.fit(x, y[:, :1]).predict(x).shape == (80, 1)
    assert model.fit(x, y[:, 0]).predict(x).shape == (80,)


def convolutional(n_in, n_out):
    """Return a network for images of 8 x 8 that come as rows."""
    side = int(n_in**0.5)

    class Image(nn.Layer):
        def forward(self, x):
            return x.reshape(-1, side, side, 1)

    return nn.Sequential(
        *(Image(), nn.Conv2D(1, 8, 3), nn.ReLU(), nn.Flatten()),
        nn.Dense(8 * (side - 2) ** 2, n_out),
    )


def test_a_model_from_a_function(digits):
    x, x_test, y, y_test = digits
    model = SillarClassifier(convolutional, epochs=20, lr=3e-3, random_state=0)
    assert model.fit(x.astype("float32"), y).score(x_test, y_test) > 0.95
    assert isinstance(model.model_[1], nn.Conv2D)


def test_a_layer_is_copied_and_trained_on_from_its_weights(digits):
    x, _, y, _ = digits
    layer = nn.Sequential(nn.Dense(64, 10)).init(sl.Rng(0), "float64")
    before = layer[0].weight.data.copy()
    model = SillarClassifier(layer, epochs=1).fit(x, y)
    assert np.array_equal(layer[0].weight.data, before)
    moved = np.abs(model.model_[0].weight.data - before).max()
    assert 0 < moved < 0.05


def test_the_same_seed_gives_the_same_bits_and_pickling_keeps_them(digits):
    x, x_test, y, _ = digits
    first, again = (
        SillarClassifier(epochs=2, random_state=3).fit(x, y) for _ in range(2)
    )
    expected = first.predict_proba(x_test)
    assert np.array_equal(expected, again.predict_proba(x_test))
    kept = pickle.loads(pickle.dumps(first))
    assert np.array_equal(expected, kept.predict_proba(x_test))
    other = SillarClassifier(epochs=2, random_state=4).fit(x, y)
    assert not np.array_equal(expected, other.predict_proba(x_test))


def test_types_of_rows_are_kept(digits):
    x, _, y, _ = digits
    for dtype in ("float32", "float64"):
        model = SillarClassifier(epochs=1).fit(x.astype(dtype), y)
        assert model.predict_proba(x.astype(dtype)).dtype == dtype


def test_searches_in_processes_pipelines_and_calibration(digits):
    x, x_test, y, y_test = digits
    x, y = x[:400], y[:400]
    pipe = make_pipeline(StandardScaler(), SillarClassifier(lr=0.01, random_state=0))
    grid = {"sillarclassifier__hidden": [(2,), (64,)]}
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=2).fit(x, y)
    assert search.best_params_ == {"sillarclassifier__hidden": (64,)}
    assert search.score(x_test, y_test) > 0.85
    calibrated = CalibratedClassifierCV(search.best_estimator_, cv=2).fit(x, y)
    assert calibrated.score(x_test, y_test) > 0.85


def test_tables_of_pandas_with_words_for_classes():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    table = pandas.DataFrame(
        {"port": rng.integers(1, 99, 300), "proto": rng.choice(["tcp", "udp"], 300)}
    )
    y = np.where(table["proto"] == "udp", "scan", "usual")
    columns = make_column_transformer(
        (StandardScaler(), ["port"]), (OneHotEncoder(sparse_output=False), ["proto"])
    )
    columns.set_output(transform="pandas")
    pipe = make_pipeline(columns, SillarClassifier(epochs=60, random_state=0))
    assert pipe.fit(table, y).score(table, y) == 1
    assert list(pipe[-1].classes_) == ["scan", "usual"]
    assert len(pipe[-1].feature_names_in_) == 3


def test_class_weights_find_more_of_a_rare_class():
    x, y = make_classification(
        2000, weights=[0.95], flip_y=0, class_sep=0.5, random_state=1
    )
    recalls = [
        recall_score(
            y, SillarClassifier(class_weight=w, epochs=10).fit(x, y).predict(x)
        )
        for w in (None, "balanced", {0: 1.0, 1: 20.0})
    ]
    assert min(recalls[1:]) > recalls[0] + 0.1


def test_early_stopping_ends_and_the_best_weights_are_kept(digits):
    x, _, y, _ = digits
    model = SillarClassifier(early_stopping=True, lr=0.02, random_state=0).fit(x, y)
    losses = [row["val_loss"] for row in model.history_]
    assert model.n_iter_ == len(losses) < 200
    assert losses.index(min(losses)) < len(losses) - 1


def test_warm_start_goes_on(digits):
    x, _, y, _ = digits
    model = SillarClassifier(epochs=3, warm_start=True, random_state=0).fit(x, y)
    first = model.loss_
    assert model.fit(x, y).loss_ < first
    assert SillarClassifier(epochs=3, random_state=0).fit(x, y).loss_ == first


def test_callbacks_and_progress(digits, capsys):
    x, _, y, _ = digits
    seen = []

    class Note(Callback):
        def on_epoch_end(self, run):
            seen.append(run.epoch)

    SillarClassifier(epochs=2, callbacks=[Note()], verbose=True).fit(x, y)
    assert seen == [1, 2]
    assert "epoch 2/2" in "".join(capsys.readouterr())


def test_a_trained_model_needs_no_fit(digits, tmp_path):
    x, x_test, y, _ = digits
    trained = SillarClassifier(epochs=2, random_state=0).fit(x, y)
    sl.save(trained.model_, tmp_path / "m.safetensors")
    loaded = sl.load(tmp_path / "m.safetensors")
    again = SillarClassifier.from_model(loaded, trained.classes_)
    assert np.array_equal(again.predict(x_test), trained.predict(x_test))
    values = SillarRegressor(epochs=2, random_state=0).fit(x, y.astype(float))
    made = SillarRegressor.from_model(values.model_)
    assert np.array_equal(made.predict(x_test), values.predict(x_test))


def test_another_back_end_gives_the_same(digits):
    pytest.importorskip("torch")
    x, x_test, y, _ = digits
    found = [
        SillarClassifier(epochs=2, random_state=0, backend=b).fit(x, y)
        for b in ("numpy", "torch")
    ]
    expected, got = (model.predict_proba(x_test) for model in found)
    np.testing.assert_allclose(got, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"model": 3}, ConfigError, "expected model as a layer, a function"),
        ({"model": lambda a, b: "x"}, ConfigError, "got 'x'"),
        ({"loss": sl.CrossEntropy(), "class_weight": "balanced"}, ConfigError, "own"),
        ({"backend": "nothing"}, ConfigError, "expected one of numpy"),
    ],
)
def test_mistakes_are_told(digits, settings, error, text):
    x, _, y, _ = digits
    with pytest.raises(error, match=text):
        SillarClassifier(**settings, epochs=1).fit(x, y)


def test_a_model_of_other_outputs_is_told(digits):
    x, _, y, _ = digits
    wide = SillarClassifier(lambda a, b: nn.Dense(a, b + 1), epochs=1).fit(x, y)
    with pytest.raises(ShapeError, match=r"outputs are \(1257, 10\), got \(1257, 11\)"):
        wide.predict(x)


def test_without_scikit_learn_one_sentence_says_so():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import sillar\n"
        "try: import sillar.interop.sklearn\n"
        "except sillar.errors.DependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'sillar[sklearn]'" in done.stdout
    assert done.stdout.count("\n") == 1
