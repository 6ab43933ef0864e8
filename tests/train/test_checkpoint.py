"""Checkpoints: a run that was cut off and resumed is the run that never was."""

import json
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.errors import ConfigError, FormatError
from sillar.files import read_arrays
from sillar.train.checkpoint import FILE, load_checkpoint, save_checkpoint
from tests.train.kit import (
    CrashError,
    Do,
    bits,
    blobs,
    crash_at,
    logged,
    net,
    rich_net,
    timeless,
    train,
)


@dataclass
class Setting:
    """How a run is made, always anew."""

    model: Any = rich_net
    optimizer: Any = lambda: sl.Adam(1e-2)
    callbacks: Any = list
    options: dict[str, Any] = field(default_factory=dict)
    transforms: Any = list

    def run(self, directory=None, crash=None, **options):
        """Train in a directory, up to a crash; return run and model."""
        callbacks = self.callbacks()
        if crash is not None:
            callbacks = [crash_at(crash), *callbacks]
        model = self.model()
        run = train(
            model,
            optimizer=self.optimizer(),
            callbacks=callbacks,
            transforms=self.transforms(),
            run_dir=directory,
            resume=directory is not None,
            **{"epochs": 4, "validation": 0.2, **self.options, **options},
        )
        return run, model


class Count(sl.Callback):
    """Carry a state of every kind."""

    saved = ("steps", "tree")

    def __init__(self):
        self.steps, self.tree = 0, {}

    def on_step(self, run):
        self.steps += 1
        self.tree = {
            "last": np.float32(run.metrics["loss"]),
            "weights": [run.model.parameters().vector[:3].copy(), {"of": "text"}],
            "empty": np.zeros((0, 2)),
        }


def schedules():
    cosine = sl.CosineAnnealing(0.05, steps=20, lr_min=0.001)
    return [sl.StepDecay(0.1, 5), sl.OneCycle(0.1, 24), sl.LinearWarmup(cosine, 4)]


def dropping():
    """Return transforms that all have something to remember, or to do."""
    return [sl.SkipNonFinite(), sl.Accumulate(5), sl.ClipNorm(0.5), sl.ClipValue(0.1)]


OPTIMIZERS = {
    "SGD": lambda: sl.SGD(0.1),
    "momentum": lambda: sl.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda: sl.Adam(1e-2),
    "AdamW": lambda: sl.AdamW(1e-2),
    "RMSprop": lambda: sl.RMSprop(1e-2, momentum=0.9, centered=True),
    "Lion": lambda: sl.Lion(1e-2, weight_decay=0.1),
}
SETTINGS = {
    **{name: Setting(optimizer=make) for name, make in OPTIMIZERS.items()},
    **{
        type(schedule).__name__: Setting(optimizer=lambda s=schedule: sl.Adam(s))
        for schedule in schedules()
    },
    "transforms": Setting(transforms=dropping),
    "L1": Setting(options={"penalty": sl.L1(0.01, where="*weight")}),
    "L2": Setting(options={"penalty": sl.L2(0.1)}),
    "not compiled": Setting(options={"compiled": False}),
    "no validation": Setting(options={"validation": None}),
    "early stopping": Setting(callbacks=lambda: [sl.EarlyStopping("loss", patience=1)]),
    "own state": Setting(callbacks=lambda: [sl.every(steps=2)(Count()), Count()]),
    "a batch left out": Setting(options={"data": blobs(61), "validation": None}),
    "float64": Setting(model=lambda: rich_net().init(sl.Rng(3), dtype="float64")),
    "frozen kernels": Setting(
        model=lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm(4, affine=False), net())
    ),
}
SKIPPED = {name: random.Random(name).sample(range(1, 24), 3) for name in SETTINGS}


def assert_same(expected, actual, directory):
    (run, model), (resumed, other) = expected, actual
    assert bits(other) == bits(model)
    assert bits(resumed.optimizer.state()) == bits(run.optimizer.state())
    assert timeless(resumed.history) == timeless(run.history)
    assert timeless([resumed.metrics]) == timeless([run.metrics])
    assert (resumed.step, resumed.epoch) == (run.step, run.epoch)
    assert (resumed.stop, resumed.reason) == (run.stop, run.reason)
    assert logged(directory) == timeless(run.history)
    for one, two in zip(run.callbacks, resumed.callbacks, strict=False):
        assert repr(one.state()) == repr(two.state())


@pytest.mark.parametrize("mid_epoch", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_run_gives_the_same_bits(name, mid_epoch, tmp_path):
    setting = SETTINGS[name]
    expected = setting.run()

    def run(crash=None):
        saves = [sl.every(steps=4)(sl.Checkpoint(tmp_path))] if mid_epoch else []
        with_saves = Setting(**vars(setting))
        with_saves.callbacks = lambda: [*saves, *setting.callbacks()]
        return with_saves.run(tmp_path, crash)

    for step in sorted(SKIPPED[name]):
        if step <= expected[0].step:
            with pytest.raises(CrashError):
                run(crash=step)
    resumed = run()
    resumed[0].callbacks = resumed[0].callbacks[: len(expected[0].callbacks)]
    assert_same(expected, resumed, tmp_path)


def test_a_run_may_be_cut_after_every_step(tmp_path):
    setting = Setting(transforms=dropping)
    expected = setting.run()
    saving = Setting(transforms=dropping, callbacks=lambda: [sl.Checkpoint(tmp_path)])
    for step in range(2, expected[0].step + 1):
        with pytest.raises(CrashError):
            saving.run(tmp_path, crash=step)
    assert_same(expected, saving.run(tmp_path), tmp_path)


def test_what_is_saved_is_what_all_callbacks_made_of_a_step(tmp_path):
    """A checkpoint given first still comes last."""

    def callbacks():
        return [sl.every(steps=2)(sl.Checkpoint(tmp_path)), Count(), sl.EarlyStopping()]

    setting = Setting(callbacks=callbacks)
    with pytest.raises(CrashError):
        setting.run(tmp_path, crash=13)
    run, _ = setting.run(tmp_path)
    assert next(c for c in run.callbacks if isinstance(c, Count)).steps == run.step


def test_a_checkpoint_callback_alone_can_be_resumed_from(tmp_path):
    expected = Setting().run()
    with pytest.raises(CrashError):
        train(
            rich_net(),
            callbacks=[sl.every(steps=5)(sl.Checkpoint(tmp_path)), crash_at(17)],
            epochs=4,
            validation=0.2,
        )
    assert_same(expected, Setting().run(tmp_path), tmp_path)


# Finished runs


def no_steps(run):
    raise AssertionError("a step of a run that had finished")


@pytest.mark.parametrize("patience", [1, 50])
def test_a_finished_run_does_no_step_and_has_the_best_weights(patience, tmp_path):
    setting = Setting(callbacks=lambda: [sl.EarlyStopping("loss", patience=patience)])
    setting.optimizer = lambda: sl.SGD(2.0)  # wild enough to get worse again
    expected = setting.run(tmp_path, epochs=12)
    stopping = expected[0].callbacks[0]
    assert stopping.best_epoch < expected[0].epoch
    assert expected[0].stop == (patience == 1)
    again = Setting(
        callbacks=lambda: [*setting.callbacks(), Do(on_step=no_steps)],
        optimizer=setting.optimizer,
    )
    for _ in range(2):
        assert_same(expected, again.run(tmp_path, epochs=12), tmp_path)


def test_a_finished_run_goes_on_with_more_epochs(tmp_path):
    callbacks = lambda: [sl.EarlyStopping("loss", patience=50)]  # noqa: E731
    setting = Setting(callbacks=callbacks, optimizer=lambda: sl.SGD(2.0))
    expected = setting.run(epochs=9)
    setting.run(tmp_path, epochs=2)
    setting.run(tmp_path, epochs=5)
    assert_same(expected, setting.run(tmp_path, epochs=9), tmp_path)


def test_more_patience_goes_on_where_less_had_ended(tmp_path):
    def with_patience(patience):
        return Setting(
            callbacks=lambda: [sl.EarlyStopping("loss", patience=patience)],
            optimizer=lambda: sl.SGD(2.0),
        )

    expected = with_patience(3).run(epochs=12)
    first, _ = with_patience(1).run(tmp_path, epochs=12)
    assert first.epoch < expected[0].epoch
    assert_same(expected, with_patience(3).run(tmp_path, epochs=12), tmp_path)


def test_a_run_that_was_interrupted_goes_on(tmp_path):
    """Being stopped from outside is no property of the run."""
    expected = Setting().run()
    end = Do(on_step=lambda run: run.step == 8 and run.end("time is up"))
    run, _ = Setting(callbacks=lambda: [end, sl.Checkpoint(tmp_path)]).run(tmp_path)
    assert (run.step, run.reason) == (8, "time is up")
    assert_same(expected, Setting().run(tmp_path), tmp_path)


def test_a_run_that_diverged_ends_again_at_the_same_step(tmp_path):
    data = blobs()
    x = data.x.copy()
    x[30] = np.nan
    setting = Setting(
        callbacks=lambda: [sl.Checkpoint(tmp_path)],
        options={"data": sl.data.Dataset(x, data.y), "validation": None},
    )
    expected = setting.run(tmp_path)
    assert "in step" in expected[0].reason
    assert_same(expected, setting.run(tmp_path), tmp_path)


# Refusals


@pytest.fixture
def finished(tmp_path):
    """Return the directory of a run, and a function that says if it is as it was."""
    Setting(callbacks=lambda: [Count()]).run(tmp_path, epochs=1)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def untouched():
        after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        return after == before

    return tmp_path, untouched


def other_data():
    x = blobs().x.copy()
    x[17, 2] += 1e-6
    return sl.data.Dataset(x, blobs().y)


wide = nn.Sequential(nn.Dense(4, 9), nn.Tanh(), nn.Dense(9, 3))
CHANGES = {
    "seed": ({"seed": 1}, r"seed was 0 in .*, now it is 1"),
    "batch size": ({"batch_size": 4}, "batch_size was 8 in .*, now it is 4"),
    "data": ({"data": other_data()}, "data was '"),
    "share": ({"validation": 0.3}, "data was '"),
    "validation": ({"validation": blobs(9)}, "data was '"),
    "model": ({"model": lambda: wide}, r"model\.layers\.0\.weight was 'float32 \(4, 8"),
    "type": (
        {"model": lambda: rich_net().init(sl.Rng(0), dtype="float64")},
        r"was 'float32 \(4, 8\)' in .*, now it is 'float64 \(4, 8\)'",
    ),
    "optimizer": ({"optimizer": lambda: sl.SGD(0.1)}, "optimizer was 'Adam'"),
    "loss": ({"loss": sl.Focal()}, "loss was 'CrossEntropy' in .*, now it is 'Focal'"),
    "callback": (
        {"callbacks": lambda: [sl.EarlyStopping("loss")]},
        r"callbacks was \['Count'\] in .*, now it is \['EarlyStopping'\]",
    ),
    "fewer": ({"callbacks": list}, r"callbacks was \['Count'\] in .*, now it is \[\]"),
    "more": (
        {"callbacks": lambda: [Count(), Count()]},
        r"now it is \['Count', 'Count'\]",
    ),
    "transforms": ({"transforms": lambda: [sl.Accumulate(2)]}, "missing.*transforms"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_another_run_is_refused_and_nothing_is_lost(change, message, finished):
    directory, untouched = finished
    setting = Setting(callbacks=lambda: [Count()])
    options = {k: v for k, v in change.items() if k not in vars(setting)}
    for name in change.keys() & vars(setting).keys():
        setattr(setting, name, change[name])
    with pytest.raises(ConfigError, match=message):
        setting.run(directory, **options)
    assert untouched()
    run, _ = Setting(callbacks=lambda: [Count()]).run(directory, epochs=2)
    assert run.epoch == 2


def test_another_validation_part_is_another_run(tmp_path):
    held = {"validation": blobs(9)}
    Setting(options=held).run(tmp_path, epochs=1)
    with pytest.raises(ConfigError, match=r"validation was '\w+' in .*, now it is '"):
        Setting().run(tmp_path, validation=blobs(9, seed=1))
    Setting(options=held).run(tmp_path, epochs=2)


def test_callbacks_without_state_may_come_and_go(finished):
    directory, _ = finished
    setting = Setting(callbacks=lambda: [Do(), sl.every(steps=2)(Do()), Count()])
    run, _ = setting.run(directory, epochs=2)
    assert run.epoch == 2


def test_a_run_is_not_overwritten_by_another(finished):
    directory, untouched = finished
    with pytest.raises(ConfigError, match=r"there is a run in .*: pass resume=True"):
        train(rich_net(), run_dir=directory)
    assert untouched()


def test_a_state_that_cannot_be_saved_is_explained(tmp_path):
    class Odd(sl.Callback):
        saved = ("thing",)
        thing = object()

    with pytest.raises(ConfigError, match="checkpoint: a state is numbers, text"):
        train(net(), callbacks=[Odd()], run_dir=tmp_path)


# Damage


def damaged_at(path, offset, bit=1):
    data = bytearray(path.read_bytes())
    data[offset] ^= bit
    path.write_bytes(data)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def places(path, count):
    """Return bytes all over the file: in its header, its weights and its JSON."""
    size = path.stat().st_size
    return random.Random(0).sample(range(size), count)


def test_any_flipped_bit_is_found(finished):
    directory, _ = finished
    path = directory / FILE
    whole = path.read_bytes()
    setting = Setting(callbacks=lambda: [Count()])
    for offset in places(path, 60):
        damaged_at(path, offset, 1 << offset % 8)
        with pytest.raises(FormatError) as caught:
            setting.run(directory)
        assert str(path) in str(caught.value)
        path.write_bytes(whole)
    setting.run(directory)


@pytest.mark.parametrize("size", [0, 7, 8, 100, 1000, -1])
def test_a_file_cut_short_is_found(size, finished):
    directory, _ = finished
    cut(directory / FILE, size)
    with pytest.raises(FormatError, match=r"state\.safetensors"):
        Setting(callbacks=lambda: [Count()]).run(directory)


def test_a_model_is_no_checkpoint(finished):
    directory, _ = finished
    sl.save(net().init(sl.Rng(0)), directory / FILE)
    with pytest.raises(FormatError, match=r"expected a checkpoint in .*checksum"):
        Setting(callbacks=lambda: [Count()]).run(directory)


def test_a_damaged_checkpoint_leaves_the_log_alone(finished):
    directory, _ = finished
    before = (directory / "metrics.jsonl").read_text()
    cut(directory / FILE, 500)
    with pytest.raises(FormatError):
        Setting(callbacks=lambda: [Count()]).run(directory)
    assert (directory / "metrics.jsonl").read_text() == before


# The file


def test_a_long_history_fits(tmp_path):
    """The header of the layout ends at 1 MiB; a history does not."""
    run = train(net(), blobs(4), epochs=1)
    run.history *= 20_000
    path = tmp_path / "state.safetensors"
    save_checkpoint(run, path)
    assert path.stat().st_size > 2**20
    run.history = []
    load_checkpoint(run, path)
    assert len(run.history) == 20_000


def test_the_file_is_plain_safetensors(finished):
    directory, _ = finished
    arrays, metadata = read_arrays(directory / FILE)
    assert list(metadata) == ["sillar.checkpoint"]
    assert {"model/layers.0.weight", "model/layers.1.running_mean"} <= set(arrays)
    plain = json.loads(arrays["json"].tobytes())
    assert set(plain) == {"identity", "run", "optimizer", "callbacks"}


def test_what_a_killed_run_left_is_cleared_away(finished):
    directory, _ = finished
    left_over = directory / FILE.parent / f".{'0' * 16}.tmp"
    left_over.write_bytes(b"half a checkpoint")
    Setting(callbacks=lambda: [Count()]).run(directory)
    assert [p.name for p in left_over.parent.iterdir()] == [FILE.name]
