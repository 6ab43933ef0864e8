"""fit: what it takes, what it does, what it refuses."""

import gc
import os
import subprocess
import sys
import threading
from itertools import pairwise

import numpy as np
import psutil
import pytest

import sillar as sl
from sillar import nn
from sillar.data import DataLoader, Dataset
from sillar.errors import ConfigError, DataError, SillarError
from tests.train.kit import Do, bits, blobs, net, rich_net, timeless, train

# The loop


def test_ten_lines_by_hand_give_the_same_bits():
    data, model = blobs(50), rich_net()
    run = train(model, data, optimizer=sl.Adam(1e-2), epochs=3, seed=5)

    by_hand, loss = rich_net().init(sl.Rng(5).split("weights")), sl.CrossEntropy()
    optimizer = sl.Adam(1e-2).bind(by_hand.parameters())
    total = 0.0
    for epoch in range(3):
        for x, y in DataLoader(data, 8, shuffle=True, seed=5).epoch(epoch):
            rng = sl.Rng(5).split("step", optimizer.updates)
            value = loss(by_hand(x, rng=rng), y)
            optimizer.step(sl.grad(value, optimizer.params))
            total += value.item() * len(x) / 50 if epoch == 2 else 0

    assert bits(by_hand) == bits(model)
    assert bits(optimizer.state()) == bits(run.optimizer.state())
    assert run.metrics["loss"] == pytest.approx(total, abs=1e-12)


def test_training_learns_and_reports_what_evaluate_finds():
    data, held = blobs(300), blobs(90, seed=1)
    model = net()
    run = train(model, data, epochs=20, validation=held)
    found = sl.evaluate(model, held, loss=sl.CrossEntropy())
    assert run.metrics["accuracy"] > 0.8
    assert run.metrics["val_accuracy"] == found["accuracy"]
    assert run.metrics["val_loss"] == found["loss"]
    assert (run.epoch, run.step, run.batch) == (20, 20 * 38, 0)
    assert [row["epoch"] for row in run.history] == list(range(1, 21))


def test_metrics_are_means_over_examples_not_over_batches():
    data = blobs(11)  # batches of 8 and 3
    model = net().init(sl.Rng(0))
    expected = sl.evaluate(model, data, loss=sl.CrossEntropy())
    run = train(model, data, optimizer=sl.SGD(0.0), epochs=1)
    assert run.metrics["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    assert run.metrics["accuracy"] == expected["accuracy"]


def test_accuracy_is_exact():
    data = Dataset(np.ones((49, 1), "f4"), np.zeros(49, "i8"))
    run = train(nn.Sequential(nn.Dense(1, 2)), data, epochs=30, batch_size=49)
    assert run.metrics["accuracy"] == 1.0  # 49 times 1 / 49 is not


def test_the_share_held_back_is_not_trained_on():
    data = blobs(50)
    seen = []

    class Watch(nn.Layer):
        def forward(self, x):
            if nn.is_training():
                seen.append(x.numpy().copy())
            return x

    run = train(nn.Sequential(Watch(), net()), data, validation=0.2, epochs=1)
    rows = np.concatenate(seen)
    assert len(rows) == 40
    assert run.batches == 5
    assert len(np.unique(rows, axis=0)) == 40


def test_no_epochs_only_initialises():
    model = net()
    run = train(model, epochs=0)
    assert bits(model) == bits(net().init(sl.Rng(0).split("weights")))
    assert (run.epoch, run.metrics, run.history) == (0, {}, [])


def test_values_a_model_has_are_kept():
    model = net().init(sl.Rng(9))
    before = bits(model)
    train(model, optimizer=sl.SGD(0.0))
    assert bits(model) == before


# Determinism


def test_twice_in_one_process_gives_the_same_bits():
    models = [rich_net(), rich_net()]
    runs = [train(m, epochs=3, validation=0.2) for m in models]
    assert bits(models[0]) == bits(models[1])
    assert timeless(runs[0].history) == timeless(runs[1].history)


def test_compiled_and_plain_steps_give_the_same_bits():
    class Halve(sl.Callback):
        """Give the parameters new arrays, then new values in place."""

        def on_epoch_end(self, run):
            arrays = run.model.state().items()
            run.model.load_state({name: np.array(a) for name, a in arrays})
            run.model.parameters().vector[...] *= 0.5

    models = [rich_net(), rich_net()]
    for model, compiled in zip(models, (True, False), strict=True):
        train(model, compiled=compiled, callbacks=[Halve()], epochs=3)
    assert bits(models[0]) == bits(models[1])


def test_the_same_objects_can_be_used_again():
    transforms = [sl.SkipNonFinite(), sl.Accumulate(4)]  # of 12 steps none is left
    stopping, optimizer = sl.EarlyStopping(patience=1), sl.Adam(sl.Constant(0.01))
    options = {"validation": 0.2, "transforms": transforms, "callbacks": [stopping]}
    models = [rich_net(), rich_net()]
    for model in models:
        train(model, optimizer=optimizer, **options)
    assert bits(models[0]) == bits(models[1])


PROGRAM = """
import hashlib
from tests.train.kit import bits, rich_net, train
model = rich_net()
run = train(model, epochs=3, validation=0.2)
print(hashlib.sha256(b"".join(bits(model).values())).hexdigest(), run.metrics["loss"])
"""


def test_two_processes_give_the_same_bits():
    for_each = [{"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"}]
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for env in for_each
    ]
    assert outputs[0] == outputs[1]


def test_fit_works_beside_the_main_thread():
    models = [rich_net() for _ in range(3)]
    threads = [threading.Thread(target=train, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    train(model := rich_net())
    assert all(bits(model) == bits(other) for other in models)


def test_memory_stays_flat():
    data, process = blobs(16), psutil.Process()

    def train_on(epochs):
        train(rich_net(), data, epochs=epochs, validation=0.25)
        gc.collect()
        return process.memory_info().rss

    train_on(20)
    before = train_on(50)
    assert train_on(300) - before < 2**20


# Data


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8", "bool", "float64", "f2"])
def test_inputs_of_any_type_are_computed_in_the_models(dtype):
    data = blobs()
    x = (np.abs(data.x) * 3).astype(dtype)
    models = [rich_net(), rich_net()]
    for model, given in zip(models, (x, x.astype("float32")), strict=True):
        train(model, Dataset(given, data.y))
    assert bits(models[0]) == bits(models[1])
    assert sl.predict(models[0], x).dtype == np.float32


def test_integers_stay_integers_for_an_embedding_and_for_layers_of_your_own():
    class Table(nn.Layer):
        def __init__(self):
            self.rows = nn.Parameter((5, 3), nn.initializers.standard_normal)

        def forward(self, x):
            return self.rows[x]

    data = Dataset(np.arange(20) % 5, np.arange(20) % 5 % 3)
    for first in (nn.Embedding(5, 3), Table()):
        model = nn.Sequential(first, nn.Dense(3, 3))
        run = train(model, data, optimizer=sl.Adam(0.1), epochs=30)
        assert run.metrics["accuracy"] == 1.0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_keeps_its_type(dtype):
    model = rich_net().init(sl.Rng(0), dtype=dtype)
    train(model, validation=0.2)
    assert {str(a.dtype) for a in model.state().values()} == {dtype}
    assert sl.predict(model, blobs().x).dtype == dtype


def test_new_parts_of_a_model_take_its_type():
    old = nn.Dense(4, 8).init(sl.Rng(0), dtype="float64")
    model = nn.Sequential(old, nn.BatchNorm(8), nn.Dense(8, 3))
    train(model)
    assert {str(a.dtype) for a in model.state().values()} == {"float64"}


def test_a_model_without_parameters_can_be_measured():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm(4, affine=False))
    run = train(model, blobs(61), validation=0.2)
    assert np.isfinite(run.metrics["loss"])


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9])
def test_few_examples_are_enough(n):
    run = train(net(), blobs(n), batch_size=8)
    assert run.step == 2 * (-(-n // 8))


def test_a_last_batch_of_one_does_not_meet_a_batch_norm():
    seen = []
    watch = Do(on_step=lambda run: seen.append(run.sums["examples"]))
    run = train(rich_net(), blobs(17), callbacks=[watch], epochs=40)
    assert seen[:4] == [8, 16, 8, 16]
    assert (run.batches, run.step) == (2, 80)
    run = train(net(), blobs(17))  # without batch norm it is trained on
    assert (run.batches, run.step) == (3, 6)


def test_every_example_is_left_out_at_times_and_none_for_good():
    x = np.repeat(np.arange(17, dtype="f4")[:, None], 4, axis=1)
    data = Dataset(x, np.arange(17))
    seen = []

    class Watch(nn.Layer):
        def forward(self, x):
            if nn.is_training():
                seen.extend(x.numpy()[:, -1].astype(int))
            return x

    train(nn.Sequential(Watch(), rich_net(17)), data, epochs=60)
    assert len(seen) == 60 * 16
    assert set(seen) == set(range(17))


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"data": blobs(1)}])
def test_batch_norm_says_what_it_needs(options):
    with pytest.raises(SillarError, match=r"two values or more.*use a larger batch"):
        train(rich_net(), **options)


# Targets


def linear(n=40, columns=None):
    x = np.random.default_rng(0).normal(size=(n, 4)).astype("f4")
    y = x @ np.array([1, -2, 0.5, 0], "f4")
    return Dataset(x, y if columns is None else np.stack([y] * columns, axis=1))


@pytest.mark.parametrize("columns", [None, 1, 2])
@pytest.mark.parametrize("loss", [sl.MSE(), sl.MAE(), sl.Huber()])
def test_regression(columns, loss):
    model = nn.Sequential(nn.Dense(4, columns or 1))
    run = train(
        model,
        linear(columns=columns),
        loss,
        sl.Adam(0.1),
        epochs=60,
        validation=0.25,
    )
    assert run.metrics["val_loss"] < 0.1
    assert not {"accuracy", "val_accuracy"} & set(run.metrics)
    assert sl.evaluate(model, linear(columns=columns))["r2"] > 0.9


def test_whole_numbers_can_be_regressed_on():
    data = linear()
    data = Dataset(data.x, np.round(data.y * 10).astype("int64"))
    model = nn.Sequential(nn.Dense(4, 1))
    run = train(model, data, sl.MSE(), sl.Adam(1.0), epochs=40, validation=0.25)
    assert "accuracy" not in run.metrics
    assert sl.evaluate(model, data)["r2"] > 0.9


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
@pytest.mark.parametrize("loss", [sl.BinaryCrossEntropy(), sl.Focal()])
def test_two_classes_with_one_logit(shape, dtype, loss):
    data = blobs(80, classes=2)
    data = Dataset(data.x, data.y.reshape(shape).astype(dtype))
    model = nn.Sequential(nn.Dense(4, 1))
    run = train(model, data, loss, sl.Adam(0.1), epochs=20, validation=0.25)
    assert run.metrics["val_accuracy"] > 0.8
    guess = sl.predict(model, data.x)[:, 0] > 0
    found = sl.evaluate(model, data, loss=loss)
    assert found["accuracy"] == np.mean(guess == data.y.reshape(-1))


def test_a_model_that_ends_in_a_sigmoid_is_judged_at_one_half():
    data = blobs(80, classes=2)
    model = nn.Sequential(nn.Dense(4, 1), nn.Sigmoid())
    run = train(model, data, sl.MSE(), sl.Adam(0.1), epochs=20, validation=data)
    guess = sl.predict(model, data.x)[:, 0] > 0.5
    assert run.metrics["val_accuracy"] == np.mean(guess == data.y) > 0.8
    assert sl.evaluate(model, data)["accuracy"] == run.metrics["val_accuracy"]


def test_pixels_are_counted_one_by_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 5, 5, 1)).astype("f4")
    data = Dataset(x, (x[..., 0] > 0).astype("i8"))
    model = nn.Sequential(nn.Conv2D(1, 2, 1))
    run = train(model, data, optimizer=sl.Adam(0.3), epochs=20, validation=data)
    assert 0.9 < run.metrics["val_accuracy"] <= 1
    assert sl.evaluate(model, data)["accuracy"] == run.metrics["val_accuracy"]


# Refusals


def test_labels_beyond_the_outputs_are_refused():
    with pytest.raises(DataError, match=r"\[0, 2\), got 2.*one output for each class"):
        train(net(classes=2))
    with pytest.raises(DataError, match="one output for each"):
        sl.evaluate(net(classes=2).init(sl.Rng(0)), blobs())


def test_one_output_for_cross_entropy_is_refused_not_trained_on():
    """Labels (n,) taken for probabilities (n, 1) would give a loss of 0."""
    with pytest.raises(DataError, match=r"\[0, 1\), got 1.*one output for each class"):
        train(net(classes=1), blobs(classes=2))


@pytest.mark.parametrize("y", [[0, 1, 2], [-1, 1, 1], [0, 0.5, 1.5], [0, 1, np.nan]])
def test_answers_that_are_no_probabilities_are_refused(y):
    data = Dataset(blobs(3).x, np.array(y))
    with pytest.raises(DataError, match=r"targets in \[0, 1\], got .*use CrossEntropy"):
        train(net(classes=1), data, sl.BinaryCrossEntropy())


EMPTY = blobs()[:0]
REFUSED = {
    "a class for an object": ({"loss": sl.CrossEntropy}, "derived from Loss"),
    "a function for a loss": ({"loss": lambda p, t: 0}, "derived from Loss"),
    "no optimizer": ({"optimizer": "adam"}, "derived from Optimizer"),
    "no data set": ({"data": ([1], [2])}, "expected a Dataset to train on, got tuple"),
    "no examples": ({"data": EMPTY}, "'dataset' has no examples"),
    "none held back": ({"validation": EMPTY}, "'dataset' has no examples"),
    "no share": ({"validation": (1, 2)}, "validation must be a Dataset, a share"),
    "a share of 1": ({"validation": 1.0}, "test must be a share in"),
    "nothing left": ({"data": blobs(1), "validation": 0.5}, "at least one row"),
    "negative epochs": ({"epochs": -1}, "epochs must be an integer >= 0, got -1"),
    "half an epoch": ({"epochs": 0.5}, "epochs must be an integer >= 0, got 0.5"),
    "no batch": ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
    "negative seed": ({"seed": -1}, "seed must be an integer >= 0"),
    "one callback": ({"callbacks": sl.Progress()}, r"write callbacks=\[...\]"),
    "a callback's class": ({"callbacks": [sl.Progress]}, "give an object"),
    "every without its own": ({"callbacks": [sl.every(steps=1)]}, "a callback, got"),
    "one transform": ({"transforms": sl.ClipNorm(1.0)}, r"write transforms=\[...\]"),
    "nothing to resume": ({"resume": True}, "resume=True needs run_dir"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_mistakes_are_explained(options, message):
    with pytest.raises(ConfigError, match=message):
        train(net(), **options)


def test_a_loss_has_to_be_one_number():
    with pytest.raises(SillarError, match="reduce it"):
        train(net(), loss=sl.CrossEntropy(reduction="none"))


# Losses that are not finite


def poisoned(at=30, value=np.nan, n=60):
    """Return data in which one example is bad, and who meets it when."""
    data = blobs(n)
    x = data.x.copy()
    x[at] = value
    return Dataset(x, data.y)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_batch_ends_the_run_and_changes_nothing(value, compiled):
    kept = {}

    def remember(run):
        kept["model"], kept["optimizer"] = bits(run.model), bits(run.optimizer.state())

    watch = Do(on_start=remember, on_step=remember)
    model = rich_net()
    data = poisoned(value=value)
    run = train(model, data, callbacks=[watch], epochs=5, compiled=compiled)
    assert bits(model) == kept["model"]
    assert bits(run.optimizer.state()) == kept["optimizer"]
    assert run.epoch == 0
    assert f"in step {run.step + 1}: its inputs are not finite" in run.reason
    assert np.isfinite(sl.predict(model, blobs().x)).all()


def test_a_rate_too_high_ends_the_run_with_advice():
    data = linear()
    run = train(nn.Sequential(nn.Dense(4, 1)), data, sl.MSE(), sl.SGD(1e6), epochs=50)
    assert run.stop
    assert run.epoch < 50
    for advice in ("learning rate", "ClipNorm", "SkipNonFinite"):
        assert advice in run.reason


@pytest.mark.parametrize("optimizer", [sl.SGD(0.1, momentum=0.9), sl.Adam(), sl.Lion()])
def test_skipping_leaves_everything_as_if_the_batch_had_not_been(optimizer):
    skip, seen = sl.SkipNonFinite(), []

    def compare(run):
        now = bits(run.model), bits(run.optimizer.state())
        now[1].pop("transforms.0.skipped")
        seen.append((skip.skipped, now))

    model = rich_net()
    run = train(
        model,
        poisoned(),
        optimizer=optimizer,
        callbacks=[Do(on_step=compare)],
        transforms=[skip],
        epochs=3,
    )
    assert skip.skipped == 3
    assert run.epoch == 3
    assert not run.reason
    for (before, kept), (after, now) in pairwise(seen):
        assert (kept == now) == (after > before)
    assert np.isfinite(sl.predict(model, blobs().x)).all()
    assert all(np.isfinite(row["loss"]) for row in run.history)


def test_skipping_every_batch_ends_the_run():
    data = Dataset(np.full((20, 4), np.nan, "f4"), blobs(20).y)
    run = train(net(), data, transforms=[sl.SkipNonFinite()], epochs=9)
    assert "every batch of the epoch was skipped" in run.reason
    assert run.epoch == 1
