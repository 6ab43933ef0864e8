"""Training with worker processes: nothing but the time differs."""

import numpy as np
import pytest
from kit import CrashError, bits, blobs, crash_at, rich_net, train

import sillar as sl
from sillar import nn
from sillar.data import Dataset, StoredArray


class Points(StoredArray):
    """The points of `blobs`, handed out one by one."""

    def __init__(self):
        self.points = blobs().x
        self.shape, self.dtype = self.points.shape, self.points.dtype

    def row(self, number):
        return self.points[number]


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_change_no_bit(workers):
    models = [rich_net(), rich_net()]
    for model, count in zip(models, (0, workers), strict=True):
        train(model, workers=count, epochs=3, validation=0.2)
    assert bits(models[0]) == bits(models[1])


def test_every_back_end_sees_the_same_batches():
    seen = {}

    class Keep(nn.Layer):
        def forward(self, x):
            if nn.is_training():
                seen[name].append(np.asarray(x.numpy()).tobytes())
            return x

    for name, workers in (("numpy", 0), ("numpy", 2), ("torch", 0), ("torch", 2)):
        if name == "torch":
            pytest.importorskip("torch")
        seen[name] = []
        model = nn.Sequential(Keep(), nn.Dense(4, 3)).init(sl.Rng(0)).to(name)
        train(model, workers=workers, compiled=False)
        assert seen[name] == seen["numpy"]
        assert len(seen[name]) == 16


def test_stored_rows_train_to_the_same_bits():
    models = [rich_net(), rich_net(), rich_net()]
    stored = Dataset(Points(), blobs().y)
    runs = [
        train(models[0], validation=0.2),
        train(models[1], stored, validation=0.2),
        train(models[2], stored, validation=0.2, workers=2),
    ]
    assert bits(models[0]) == bits(models[1]) == bits(models[2])
    assert runs[0].identity == runs[1].identity  # the digests are those of the values
    assert sl.evaluate(models[0], blobs()) == sl.evaluate(models[1], stored)


def test_a_run_with_workers_that_crashed_goes_on_to_the_same_bits(tmp_path):
    whole, cut, again = rich_net(), rich_net(), rich_net()
    train(whole, epochs=3)
    saving = sl.every(steps=1)(sl.Checkpoint(tmp_path))
    crash = [saving, crash_at(11)]
    with pytest.raises(CrashError):
        train(cut, epochs=3, workers=2, run_dir=tmp_path, callbacks=crash)
    train(again, epochs=3, workers=4, run_dir=tmp_path, resume=True)
    assert bits(whole) == bits(again)
