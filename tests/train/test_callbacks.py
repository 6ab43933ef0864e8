"""Callbacks: four events, *when*, early stopping, the log and the progress lines."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sillar as sl
from sillar import nn
from sillar.errors import ConfigError
from sillar.train import MetricsLog
from tests.train.kit import CrashError, Do, bits, blobs, crash_at, net, rich_net, train

EVENTS = ("on_start", "on_step", "on_epoch_end", "on_stop")


class Recorder(sl.Callback):
    """Write down each event, and the epoch and step at which it came."""

    def __init__(self, name="", heard=None):
        self.heard = [] if heard is None else heard
        for event in EVENTS:
            setattr(self, event, self._listener(name + event))

    def _listener(self, label):
        return lambda run: self.heard.append((label, run.epoch, run.step))


# Events


def test_events_come_in_order():
    recorder = Recorder()
    train(net(), blobs(20), callbacks=[recorder], epochs=2)
    assert recorder.heard == [
        ("on_start", 0, 0),
        *[("on_step", 0, 1), ("on_step", 0, 2), ("on_step", 0, 3)],
        ("on_epoch_end", 1, 3),
        *[("on_step", 1, 4), ("on_step", 1, 5), ("on_step", 1, 6)],
        ("on_epoch_end", 2, 6),
        ("on_stop", 2, 6),
    ]


def test_callbacks_hear_in_the_order_given():
    heard = []
    callbacks = [Recorder("a ", heard), Recorder("b ", heard)]
    train(net(), blobs(8), callbacks=callbacks, epochs=1)
    expected = [f"{name} {event}" for event in EVENTS for name in "ab"]
    assert [label for label, *_ in heard] == expected


def test_every_lets_through_each_nth_step_or_epoch():
    steps, epochs = Recorder(), Recorder()
    callbacks = [sl.every(steps=4)(steps), sl.every(epochs=3)(epochs)]
    train(net(), blobs(20), callbacks=callbacks, epochs=6)
    counted = [step for event, _, step in steps.heard if event == "on_step"]
    assert counted == [4, 8, 12, 16]
    assert {event for event, *_ in steps.heard} == set(EVENTS) - {"on_epoch_end"}
    finished = [epoch for event, epoch, _ in epochs.heard if event == "on_epoch_end"]
    assert finished == [3, 6]
    assert {event for event, *_ in epochs.heard} == set(EVENTS) - {"on_step"}


def test_every_may_stand_around_every():
    recorder = Recorder()
    both = sl.every(epochs=2)(sl.every(epochs=3)(recorder))
    train(net(), blobs(8), callbacks=[both], epochs=12)
    finished = [epoch for event, epoch, _ in recorder.heard if event == "on_epoch_end"]
    assert finished == [6, 12]


@pytest.mark.parametrize(
    "when",
    [{}, {"steps": 1, "epochs": 1}, {"steps": 0}, {"epochs": -1}, {"steps": 1.5}],
)
def test_every_wants_one_number_of_at_least_one(when):
    with pytest.raises(ConfigError, match="every"):
        sl.every(**when)


def test_every_wants_a_callback():
    with pytest.raises(ConfigError, match="every: expected a callback, got"):
        sl.every(steps=2)(sl.Progress)


def test_a_callback_can_stop_at_a_step_or_at_an_epoch():
    def stop(run):
        run.stop = True

    recorder = Recorder()
    at_step = Do(on_step=lambda run: run.step == 5 and run.end("enough"))
    run = train(net(), blobs(20), callbacks=[at_step, recorder], epochs=9)
    assert (run.step, run.epoch, run.batch, run.reason) == (5, 1, 2, "enough")
    assert recorder.heard[-2:] == [("on_step", 1, 5), ("on_stop", 1, 5)]
    run = train(net(), blobs(20), callbacks=[Do(on_epoch_end=stop)], epochs=9)
    assert (run.step, run.epoch, run.reason) == (3, 1, "")


def test_metrics_a_callback_adds_are_kept(tmp_path):
    def add(run):
        run.metrics["f1"] = np.float32(0.25)

    add = Do(on_epoch_end=add)
    run = train(net(), callbacks=[add, sl.Progress()], run_dir=tmp_path)
    assert [row["f1"] for row in run.history] == [0.25, 0.25]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["f1"] for line in lines] == [0.25, 0.25]


@pytest.mark.parametrize("event", EVENTS)
def test_an_error_in_a_callback_reaches_the_caller_and_the_others_stop(event):
    def crash(run):
        raise CrashError

    before, itself, after = Recorder(), Recorder(), Recorder()
    setattr(itself, event, crash)
    with pytest.raises(CrashError):
        train(net(), callbacks=[before, itself, after])
    assert before.heard[-1][0] == "on_stop"
    assert event == "on_stop" or itself.heard[-1][0] == "on_stop"
    started = event != "on_start"
    assert [name for name, *_ in after.heard][-1:] == ["on_stop"] * started


def test_of_two_errors_at_the_end_both_are_told():
    def crash(run):
        raise CrashError("stop")

    with pytest.raises(CrashError, match="stop") as caught:
        train(net(), callbacks=[crash_at(1), Do(on_stop=crash)])
    assert isinstance(caught.value.__context__, CrashError)


# Early stopping


class Curve(sl.Callback):
    """Put given numbers in the place of a metric, and keep each epoch's values."""

    def __init__(self, values, name="val_loss"):
        self.values, self.name = values, name
        self.states = []

    def on_epoch_end(self, run):
        run.metrics[self.name] = self.values[run.epoch - 1]
        self.states.append(bits(run.model))


def stopped_by(curve, model=None, **options):
    """Train on a curve; return run, early stopping, states and what is left."""
    model = model or nn.Sequential(nn.Dense(4, 3), nn.BatchNorm(3))
    curve = Curve(curve, options.get("metric", "val_loss"))
    stopping = sl.EarlyStopping(**options)
    callbacks = [curve, stopping]
    run = train(model, blobs(8), callbacks=callbacks, epochs=len(curve.values))
    return run, stopping, curve.states, bits(model)


def test_patience_counts_epochs_without_improvement():
    run, stopping, states, left = stopped_by([3, 2, 1, 1, 2, 1, 0], patience=3)
    assert run.epoch == 6
    assert stopping.best_epoch == 3
    assert left == states[2]
    assert run.reason == (
        "val_loss has not improved for 3 epochs; best 1 after epoch 3"
    )


def test_the_best_weights_come_back_after_the_last_epoch_too():
    run, _, states, left = stopped_by([3, 1, 2, 2], patience=9)
    assert (run.epoch, run.reason) == (4, "")
    assert left == states[1] != states[3]


curves = st.lists(
    st.one_of(
        st.floats(-5, 5),
        st.integers(-3, 3).map(float),
        st.sampled_from([math.nan, math.inf, -math.inf]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(curve=curves, patience=st.integers(1, 4), mode=st.sampled_from(["min", "max"]))
def test_the_weights_left_are_those_of_the_best_epoch(curve, patience, mode):
    run, stopping, states, left = stopped_by(curve, patience=patience, mode=mode)
    sign = 1 if mode == "min" else -1
    seen = [math.inf if math.isnan(v) else sign * v for v in curve[: run.epoch]]
    best = int(np.argmin(seen))
    if seen[best] == math.inf:  # nothing was ever good
        assert left == states[-1]
        assert stopping.best_epoch == 0
    else:
        assert left == states[best]
        assert stopping.best_epoch == best + 1
    assert run.epoch == expected_end(seen, patience, len(curve))


def expected_end(values, patience, epochs):
    """Return the epoch that ends a run, by the definition and slowly."""
    for end in range(1, epochs):
        since = values[:end]
        first = next((i for i, v in enumerate(since) if v < math.inf), None)
        best = -1 if first is None else since.index(min(since))
        if end - 1 - best >= patience:
            return end
    return epochs


def test_small_improvements_do_not_count_against_patience_but_are_kept():
    curve = [1.0, 0.95, 0.9, 0.85, 0.5]
    run, stopping, states, left = stopped_by(curve, patience=3, min_delta=0.2)
    assert run.epoch == 4
    assert stopping.best == 0.85
    assert left == states[3]
    run, *_ = stopped_by(curve, patience=3, min_delta=0.1)
    assert run.epoch == 5


@pytest.mark.parametrize(
    ("metric", "mode", "best"),
    [
        ("val_loss", None, 2),
        ("test_error", None, 2),
        ("val_mse", None, 2),
        ("accuracy", None, 1),
        ("val_f1", None, 1),
        ("accuracy", "min", 2),
        ("val_loss", "max", 1),
    ],
)
def test_losses_and_errors_are_minimised_the_rest_maximised(metric, mode, best):
    _, stopping, *_ = stopped_by([0.5, 0.1, 0.3], metric=metric, mode=mode)
    assert stopping.best_epoch == best


def test_a_metric_that_is_never_a_number_ends_the_run_and_keeps_the_last_weights():
    run, stopping, states, left = stopped_by([math.nan] * 9, patience=4)
    assert run.epoch == 4
    assert stopping.best_epoch == 0
    assert left == states[-1]
    assert run.reason == "val_loss has not improved for 4 epochs; it was never a number"


def test_an_unknown_metric_is_explained():
    with pytest.raises(
        ConfigError, match=r"no metric 'val_loss'.*'accuracy'.*give fit"
    ):
        train(net(), callbacks=[sl.EarlyStopping()])


@pytest.mark.parametrize(
    "options",
    [{"patience": 0}, {"patience": 1.5}, {"min_delta": -1}, {"mode": "up"}],
)
def test_early_stopping_checks_its_arguments(options):
    with pytest.raises(ConfigError, match=f"EarlyStopping: {next(iter(options))}"):
        sl.EarlyStopping(**options)


def interrupt(run):
    raise KeyboardInterrupt


def crash(run):
    raise CrashError


class Break(nn.Layer):
    """Raise in the nth training call."""

    def __init__(self, at, error):
        self.at, self.error, self.calls = at, error, 0

    def forward(self, x):
        self.calls += nn.is_training()
        if self.calls == self.at and nn.is_training():
            raise self.error
        return x


def late(function):
    return lambda run: function(run) if run.epoch == 3 else None


ENDS = {
    "a callback that stops at a step": ([Do(on_step=late(lambda r: r.end("x")))], None),
    "one at an epoch": ([Do(on_epoch_end=late(lambda r: r.end("x")))], None),
    "Ctrl-C in a callback": ([Do(on_step=late(interrupt))], None),
    "Ctrl-C in a step": ([], Break(14, KeyboardInterrupt())),
    "an error in a callback": ([Do(on_step=late(crash))], CrashError),
    "one at the end of an epoch": ([Do(on_epoch_end=late(crash))], CrashError),
    "one in the last event": ([Do(on_stop=crash)], CrashError),
    "an error in a step": ([Break(14, CrashError())], CrashError),
}


@pytest.mark.parametrize("callbacks_first", [True, False])
@pytest.mark.parametrize("name", ENDS)
def test_the_best_weights_come_back_however_the_run_ends(name, callbacks_first):
    others, error = ENDS[name]
    at = [part for part in others if isinstance(part, Break)]
    others = [part for part in others if part not in at]
    if isinstance(error, Break):
        at, error = [error], None
    for part in at:
        part.calls = 0
    model = nn.Sequential(*at, rich_net())
    curve = Curve([2, 1, 3, 3, 3, 3, 3, 3])
    stopping = sl.EarlyStopping(patience=9)
    callbacks = [curve, *others, stopping] if callbacks_first else [curve, stopping]
    callbacks += [] if callbacks_first else others
    try:
        train(model, blobs(32), callbacks=callbacks, epochs=8)
    except CrashError:
        assert error is CrashError
    else:
        assert error is None
    assert bits(model) == curve.states[1]


def test_early_stopping_forgets_the_run_before():
    stopping = sl.EarlyStopping("loss", patience=2)
    first, second = net(), nn.Sequential(nn.Dense(4, 3))
    train(first, callbacks=[stopping], epochs=4)
    best, before = stopping.best, bits(first)
    hard = blobs(60, seed=3)
    run = train(second, hard, optimizer=sl.SGD(1e-9), callbacks=[stopping], epochs=3)
    assert stopping.best > best
    assert run.epoch == 3
    assert bits(first) == before


def test_early_stopping_does_not_touch_a_model_that_never_started():
    stopping, model = sl.EarlyStopping("loss"), net()
    train(net(), callbacks=[stopping])
    model.init(sl.Rng(4))
    before = bits(model)
    with pytest.raises(CrashError):
        train(model, callbacks=[Do(on_start=crash), stopping])
    assert bits(model) == before


# The log and the progress lines


def test_the_log_is_json_line_by_line(tmp_path):
    nothing = Curve([math.nan, math.inf, 0.5])
    run = train(net(), callbacks=[nothing, MetricsLog(tmp_path / "new")], epochs=3)
    lines = (tmp_path / "new" / "metrics.jsonl").read_text().splitlines()

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    rows = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [row["val_loss"] for row in rows] == [None, None, 0.5]
    assert rows[2] == run.history[2]


def test_progress_prints_a_line_for_each_epoch_and_the_reason(capsys):
    stop = Do(on_epoch_end=lambda run: run.epoch == 2 and run.end("enough"))
    train(net(), callbacks=[stop, sl.Progress()], epochs=4, validation=0.2)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 3
    assert lines[0].startswith("epoch 1/4  loss ")
    assert "val_accuracy" in lines[1]
    assert "steps/s" in lines[1]
    assert lines[2] == "stopped: enough"


def test_progress_is_the_default_and_is_quiet_on_request(capsys):
    sl.fit(net(), sl.CrossEntropy(), sl.Adam(), blobs(), epochs=1)
    assert capsys.readouterr().err.startswith("epoch 1/1")
    train(net(), epochs=1)
    assert capsys.readouterr() == ("", "")
