"""predict and evaluate: inference, in batches, with the metrics of scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk

import sillar as sl
from sillar import nn
from sillar.data import Dataset
from sillar.errors import ConfigError, SillarError
from sillar.train.evaluate import class_count, gives_logits, layers_of, scores_of
from tests.train.kit import bits, blobs, net, rich_net, train


@pytest.fixture(scope="module")
def trained():
    model = rich_net()
    train(model, blobs(90), epochs=3)
    return model


# predict


def test_predict_is_inference(trained):
    x, before = blobs().x, bits(trained)
    first, second = sl.predict(trained, x), sl.predict(trained, x)
    assert np.array_equal(first, second)
    assert np.array_equal(first, trained(x).numpy())
    assert bits(trained) == before


def test_predict_records_nothing(trained):
    counted = []

    class Watch(nn.Layer):
        def forward(self, x):
            y = x * 1.0
            counted.append(y.node)
            return y

    sl.predict(nn.Sequential(trained, Watch()), blobs().x)
    assert counted == [None]


@pytest.mark.parametrize("batch_size", [1, 7, 59, 60, 61, 10**9])
def test_batches_change_nothing_but_rounding(batch_size, trained):
    expected = sl.predict(trained, blobs().x)
    actual = sl.predict(trained, blobs().x, batch_size=batch_size)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert actual.dtype == expected.dtype


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        (rich_net(), (0, 4), (0, 3)),
        (
            nn.Sequential(nn.Conv2D(1, 2, 3), nn.MaxPool2D(2), nn.Flatten()),
            (0, 8, 8, 1),
            (0, 18),
        ),
        (nn.Sequential(), (0, 5), (0, 5)),
    ],
)
def test_no_inputs_give_no_outputs(model, shape, expected):
    model.init(sl.Rng(0))
    assert sl.predict(model, np.zeros(shape, "f4")).shape == expected


def test_lists_and_tensors_are_inputs_too(trained):
    x = blobs(3).x
    expected = sl.predict(trained, x)
    assert np.array_equal(sl.predict(trained, x.tolist()), expected)
    assert np.array_equal(sl.predict(trained, sl.Tensor(x)), expected)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "uint8", "bool"])
def test_inputs_take_the_models_type(dtype, trained):
    x = np.abs(blobs().x).astype(dtype)
    actual = sl.predict(trained, x)
    assert actual.dtype == np.float32
    assert np.array_equal(actual, sl.predict(trained, x.astype("float32")))


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "8"])
def test_a_batch_has_a_size(batch_size, trained):
    with pytest.raises(ConfigError, match="predict: batch_size must be an integer"):
        sl.predict(trained, blobs().x, batch_size=batch_size)


def test_mistakes_are_explained(trained):
    with pytest.raises(SillarError, match=r"expected inputs \(n, ...\)"):
        sl.predict(trained, 1.0)
    with pytest.raises(SillarError, match=r"call model.init"):
        sl.predict(net(), blobs().x)
    with pytest.raises(SillarError, match=r"expected input \(..., 4\), got \(60, 3\)"):
        sl.predict(trained, blobs().x[:, :3])
    with pytest.raises(SillarError, match="no examples"):
        sl.evaluate(trained, blobs()[:0])


# evaluate


def test_many_classes_as_scikit_learn_counts_them(trained):
    data = blobs(101, seed=5)
    data = Dataset(data.x, data.y, ("a", "b", "c"))
    found = sl.evaluate(trained, data, loss=sl.CrossEntropy(), batch_size=17)
    logits = sl.predict(trained, data.x).astype("f8")
    guess = logits.argmax(1)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = {
        "loss": sk.log_loss(data.y, p),
        "accuracy": sk.accuracy_score(data.y, guess),
        "precision_macro": sk.precision_score(data.y, guess, average="macro"),
        "recall_weighted": sk.recall_score(data.y, guess, average="weighted"),
        "f1_macro": sk.f1_score(data.y, guess, average="macro"),
        "roc_auc": sk.roc_auc_score(data.y, p, multi_class="ovr"),
    }
    assert {k: found[k] for k in expected} == pytest.approx(expected, rel=1e-5)
    assert found["confusion_matrix"] == sk.confusion_matrix(data.y, guess).tolist()
    assert [row["class"] for row in found["per_class"]] == ["a", "b", "c"]


ENDS = {
    "logits": ([], 0.0),
    "sigmoid": ([nn.Sigmoid()], 0.5),
    "nested": ([nn.Sequential(nn.Sequential(nn.Sigmoid()))], 0.5),
}


@pytest.mark.parametrize(("end", "threshold"), ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_one_output_is_judged_by_what_the_model_ends_in(end, threshold, scale):
    """Small logits all lie in [0, 1], and are no probabilities for that."""
    data = blobs(101, classes=2)
    model = nn.Sequential(nn.Dense(4, 1), *end).init(sl.Rng(0))
    weights = np.array([-scale, scale, 0, 0], "f4")[:, None]
    bias = np.full(1, 0.3 * scale, "f4")
    model.load_state({"layers.0.weight": weights, "layers.0.bias": bias})
    scores = sl.predict(model, data.x)[:, 0]
    guess = scores > threshold
    found = sl.evaluate(model, data)
    assert found["accuracy"] == sk.accuracy_score(data.y, guess)
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(data.y, scores))
    assert found["f1_macro"] == pytest.approx(
        sk.f1_score(data.y, guess, average="macro")
    )


@pytest.mark.parametrize(("end", "threshold"), [(sl.sigmoid, 0.5), (sl.tanh, 0.0)])
def test_outputs_of_a_layer_of_your_own_are_judged_by_their_looks(end, threshold):
    class Own(nn.Layer):
        def __init__(self):
            self.dense = nn.Dense(4, 1)

        def forward(self, x):
            return end(self.dense(x))

    model, data = Own().init(sl.Rng(1)), blobs(50, classes=2)
    guess = sl.predict(model, data.x)[:, 0] > threshold
    assert sl.evaluate(model, data)["accuracy"] == np.mean(guess == data.y)
    run = train(Own(), data, sl.MSE(), epochs=1, validation=data)
    assert 0 <= run.metrics["val_accuracy"] <= 1


@pytest.mark.parametrize("y_shape", [(-1,), (-1, 1)])
def test_regression_as_scikit_learn_measures_it(y_shape):
    data = blobs()
    y = data.x @ np.array([1, 2, 3, 4.0])
    model = nn.Sequential(nn.Dense(4, 1)).init(sl.Rng(0))
    guess = sl.predict(model, data.x)[:, 0]
    found = sl.evaluate(model, Dataset(data.x, y.reshape(y_shape)), loss=sl.MSE())
    expected = {
        "loss": sk.mean_squared_error(y, guess),
        "mse": sk.mean_squared_error(y, guess),
        "mae": sk.mean_absolute_error(y, guess),
        "r2": sk.r2_score(y, guess),
    }
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_loss_takes_the_place_of_no_other_metric():
    found = sl.evaluate(net().init(sl.Rng(0)), blobs())
    assert "loss" not in found
    assert found["samples"] == 60


def test_names_of_classes_must_fit_the_outputs():
    data = blobs()
    named = Dataset(data.x, data.y, ("a", "b", "c", "d"))
    with pytest.raises(ConfigError, match="expected 3 class names"):
        sl.evaluate(net().init(sl.Rng(0)), named)


def test_class_names_without_outputs_for_them_are_refused():
    data = blobs()
    named = Dataset(data.x, data.y, ("a", "b", "c"))
    with pytest.raises(SillarError, match="one output for each"):
        sl.evaluate(net(classes=1).init(sl.Rng(0)), named)


# Which targets are labels


@pytest.mark.parametrize(
    ("outputs", "labels", "classes", "expected"),
    [
        ((6, 3), (6,), 3, (6, 3)),
        ((6, 3), (6,), 2, (6, 3)),
        ((6, 3), (6,), 4, None),
        ((6, 1), (6,), 2, (6, 1)),
        ((6, 1), (6,), 1, (6, 1)),
        ((6,), (6,), 2, (6, 1)),
        ((6, 1), (6, 1), 2, (6, 1)),
        ((6, 1), (6,), 3, None),
        ((6, 4), (6, 4), 2, (24, 1)),
        ((6, 4), (6, 4), 3, None),
        ((6, 5, 4), (6, 5), 4, (30, 4)),
        ((6, 4), (6, 2), 2, None),
        ((6, 3), (6,), 0, None),
    ],
)
def test_scores_are_rows_for_labels(outputs, labels, classes, expected):
    scores = scores_of(np.zeros(outputs), np.zeros(labels, int), classes)
    assert expected == (None if scores is None else scores.shape)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (np.array([0, 2, 1]), 3),
        (np.array([0, 0], "u1"), 1),
        (np.array([True, False]), 2),
        (np.array([0.0, 1.0]), 0),
        (np.array([-1, 1]), 0),
        (np.array([255], "u1"), 256),
    ],
)
def test_classes_are_counted_from_zero(y, expected):
    assert class_count(Dataset(np.zeros((len(y), 1)), y)) == expected


def test_what_a_model_ends_in():
    class Own(nn.Layer):
        def forward(self, x):
            return x

    class OwnSequence(nn.Sequential):
        pass

    assert gives_logits(nn.Dense(2, 2)) is True
    assert gives_logits(nn.Sequential(nn.Sigmoid(), nn.Dense(2, 2))) is True
    assert gives_logits(nn.Sequential(nn.Dense(2, 2), nn.Softmax())) is False
    assert gives_logits(nn.Sequential()) is None
    assert gives_logits(nn.Sequential(Own())) is None
    assert gives_logits(OwnSequence(nn.Dense(2, 2))) is None


def test_every_layer_is_found_once_wherever_it_is_kept():
    class Own(nn.Layer):
        def __init__(self):
            shared = nn.ReLU()
            self.parts = {"a": [shared, nn.Tanh()], "b": (nn.Dense(1, 1), shared)}
            self.again = self

        def forward(self, x):
            return x

    found = [type(layer).__name__ for layer in layers_of(nn.Sequential(Own()))]
    assert sorted(found) == ["Dense", "Own", "ReLU", "Sequential", "Tanh"]


# Places without an answer


def sequences(ignored):
    """Return the same labels twice: some ignored, and only the others, as rows."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(9, 5, 3)), rng.integers(0, 4, (9, 5))
    kept = rng.random((9, 5)) < 0.6
    names = ("a", "b", "c", "d")
    whole = Dataset(x, np.where(kept, y, ignored), names, ignored=ignored)
    return whole, Dataset(x[kept], y[kept], names)


@pytest.mark.parametrize("ignored", [-1, -100, 9])
def test_metrics_and_loss_leave_out_what_is_ignored(ignored):
    whole, kept = sequences(ignored)
    model = nn.Sequential(nn.Dense(3, 4)).init(sl.Rng(0), dtype="float64")
    loss = sl.CrossEntropy(ignore_index=ignored)
    expected = sl.evaluate(model, kept, loss=sl.CrossEntropy())
    actual = sl.evaluate(model, whole, loss=loss)
    assert expected.pop("loss") == pytest.approx(actual.pop("loss"), abs=1e-12)
    assert expected == actual


def test_fit_counts_the_hits_among_the_answers():
    whole, kept = sequences(-1)
    loss, still = sl.CrossEntropy(ignore_index=-1), sl.SGD(0.0)
    model = nn.Sequential(nn.Dense(3, 4)).init(sl.Rng(0))
    run = sl.fit(*(model, loss, still, whole), validation=whole, epochs=1, callbacks=())
    expected = sl.evaluate(model, kept, loss=sl.CrossEntropy())
    for name in ("accuracy", "val_accuracy"):
        assert expected["accuracy"] == pytest.approx(run.metrics[name])
    assert expected["loss"] == pytest.approx(run.metrics["val_loss"], rel=1e-5)
