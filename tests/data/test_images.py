"""Augmentation: the same for ever, with and without OpenCV, and as it is told."""

import subprocess
import sys

import numpy as np
import odd_rows
import pytest

import sillar as sl
from sillar import nn
from sillar.data import (
    Augment,
    Augmentation,
    Brightness,
    Crop,
    DataLoader,
    Dataset,
    Flip,
    Noise,
    Rotation,
    Shift,
)
from sillar.data.images import rotated
from sillar.errors import ConfigError, DataError, DependencyError, ShapeError

EXACT = [Flip(), Flip(1.0, vertical=True), Crop(3), Shift(2), Shift(30, fill=0.5)]
EXACT += [Noise(0.1), Brightness(0.3)]
ALL = [Rotation(20), Flip(), Crop(2), Shift(1), Noise(0.05), Brightness(0.1)]
TYPES = ["uint8", "uint16", "int16", "float32", "float64"]


def pictures(n=12, dtype="float32", channels=3):
    """Return smooth pictures, not square."""
    y, x = np.mgrid[0:17, 0:23] / 23
    phase = np.arange(n)[:, None, None, None] + np.arange(channels)
    waves = 0.5 + 0.4 * np.sin(3 * x[..., None] + 4 * y[..., None] + phase)
    white = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    return (waves * white).astype(dtype)


def white(dtype):
    return 1.0 if np.dtype(dtype).kind == "f" else float(np.iinfo(dtype).max)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("change", EXACT, ids=repr)
def test_opencv_and_numpy_give_the_same_bits(change, channels, dtype):
    pytest.importorskip("cv2")
    images = pictures(dtype=dtype, channels=channels)
    with_it, without = (Augment([change], seed=3, opencv=c) for c in (True, False))
    changed = 0
    for row, image in enumerate(images):
        one, other = with_it(image, 2, row), without(image, 2, row)
        assert one.tobytes() == other.tobytes()
        assert (one.dtype, one.shape) == (image.dtype, image.shape)
        changed += not np.array_equal(one, image)
    assert changed > 0


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_rotation_without_opencv_is_opencvs(channels, dtype):
    cv2 = pytest.importorskip("cv2")
    fill = 0.5 * white(dtype)
    exact = dtype in ("uint8", "uint16", "float32") and cv2.__version__ >= "5"
    step = 1e-5 if exact else 0.03  # 1/32 of a pixel, where the slope is below 1/2
    allowed = step * white(dtype) + (np.dtype(dtype).kind != "f")
    for image in pictures(4, dtype, channels):
        for angle in (0, 10, 45, 90, -133.5, 180):
            middle = (23 - 1) / 2, (17 - 1) / 2
            matrix = cv2.getRotationMatrix2D(middle, angle, 1.0)
            planes = [
                cv2.warpAffine(
                    np.ascontiguousarray(image[..., c]),
                    matrix,
                    (23, 17),
                    borderValue=fill,
                )
                for c in range(channels)
            ]
            got = rotated(image, angle, fill=fill).astype(float)
            assert np.abs(np.stack(planes, axis=-1) - got).max() <= allowed


def test_a_quarter_turn_is_exact():
    image = pictures(1)[0][:, :17]
    np.testing.assert_allclose(np.rot90(image), rotated(image, 90), atol=1e-6)


@pytest.mark.parametrize("opencv", [True, False])
def test_each_change_does_what_it_says(opencv):
    if opencv:
        pytest.importorskip("cv2")
    image = pictures(1)[0]

    def drawn(change):
        augment = Augment([change], opencv=opencv)
        return [augment(image, 0, row) for row in range(200)]

    mirrored = sum(np.array_equal(g, image[:, ::-1]) for g in drawn(Flip(0.3)))
    assert 40 < mirrored < 80
    assert all(np.array_equal(g, image[::-1]) for g in drawn(Flip(1, vertical=True)))
    wide = np.pad(image, [(2, 2), (2, 2), (0, 0)], mode="reflect")
    windows = [wide[i : i + 17, j : j + 23] for i in range(5) for j in range(5)]
    found = {
        next(k for k, w in enumerate(windows) if np.array_equal(w, g))
        for g in drawn(Crop(2))
    }
    assert found == set(range(25))
    for got in drawn(Shift(2, fill=9)):
        assert (got == 9).any(axis=2).sum() in {
            17 * 23 - (17 - i) * (23 - j) for i in range(3) for j in range(3)
        }
    light = [float((g - image).mean()) for g in drawn(Brightness(0.2))]
    assert max(light) <= 0.2 + 1e-6
    assert min(light) >= -0.2 - 1e-6
    assert max(light) > 0.15
    noise = np.stack(drawn(Noise(0.1))) - image
    assert abs(noise.std() - 0.1) < 0.002
    turned = [g for g in drawn(Rotation(0)) if not np.allclose(g, image, atol=1e-6)]
    assert turned == []


def test_integers_stay_within_their_range():
    image = np.array([[[0], [255]]], "uint8")
    augment = Augment([Noise(0.5), Brightness(1.0)])
    values = {int(v) for row in range(50) for v in augment(image, 0, row).ravel()}
    assert {0, 255} <= values


def test_an_example_depends_on_seed_epoch_and_row_only():
    image = pictures(1)[0]
    augment = Augment(ALL, seed=1, opencv=False)
    bits = augment(image, 3, 7).tobytes()
    assert bits == Augment(ALL, seed=1, opencv=False)(image, 3, 7).tobytes()
    others = (augment(image, 3, 8), augment(image, 4, 7))
    assert all(bits != other.tobytes() for other in others)
    assert bits != Augment(ALL, seed=2, opencv=False)(image, 3, 7).tobytes()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_same_batches_to_the_bit_with_any_number_of_workers(dtype):
    data = Dataset(pictures(30, dtype), np.arange(30))
    kept = []
    for workers in (0, 2, 4):
        options = {"shuffle": True, "seed": 5, "workers": workers, "augment": ALL}
        with DataLoader(data, 7, **options) as loader:
            whole = [x.tobytes() for e in (0, 1) for x, _ in loader.epoch(e)]
            whole += [x.tobytes() for x, _ in loader.epoch(1, 2)]
            assert whole[7:10] == whole[10:]
            assert whole[0] == loader.batch(0, 0)[0].tobytes()
        kept.append(whole)
    assert kept[0] == kept[1] == kept[2]
    assert len(set(kept[0])) == 10


def test_any_batch_of_a_run_can_be_made_again_from_its_log(tmp_path):
    seen = {}

    class Keep(nn.Layer):
        def forward(self, x):
            if nn.is_training():
                seen["last"] = x.numpy().tobytes()
            return x

    class Log(sl.Callback):
        def on_step(self, run):
            seen[run.epoch, run.batch - 1] = seen["last"]

    data = Dataset(pictures(20), np.arange(20) % 2)
    model = nn.Sequential(Keep(), nn.Flatten(), nn.Dense(17 * 23 * 3, 2))
    run = sl.fit(
        *(model, sl.CrossEntropy(), sl.SGD(0.01), data),
        **{"epochs": 2, "batch_size": 6, "seed": 4, "augment": ALL, "workers": 2},
        callbacks=[Log()],
        run_dir=tmp_path,
    )
    del seen["last"]
    assert len(seen) == 2 * run.batches == 8
    again = DataLoader(data, 6, shuffle=True, seed=run.seed, augment=ALL)
    for (epoch, batch), bits in seen.items():
        assert bits == again.batch(epoch, batch)[0].tobytes()
    with pytest.raises(ConfigError, match="augment"):  # other changes, another run
        sl.fit(
            *(model, sl.CrossEntropy(), sl.SGD(0.01), data),
            **{"epochs": 3, "batch_size": 6, "seed": 4, "augment": ALL[:2]},
            **{"run_dir": tmp_path, "resume": True, "callbacks": ()},
        )


def test_opencvs_threads_are_off_in_workers_and_as_they_were_here():
    cv2 = pytest.importorskip("cv2")
    before = cv2.getNumThreads()
    data = Dataset(pictures(8), np.arange(8))
    with DataLoader(data, 4, workers=2, augment=[odd_rows.Threads()]) as loader:
        assert all((x <= 1).all() for x, _ in loader)
    assert cv2.getNumThreads() == before


WITHOUT = """
import sys
sys.modules["cv2"] = None
import numpy as np
from sillar.data import *
image = np.zeros((4, 5, 1), "f4")
augment = Augment([Rotation(5), Flip(), Shift(1), Crop(1)])
assert augment(image, 0, 0).shape == (4, 5, 1) and not augment.opencv
Augment([], opencv=True)
"""


def test_it_works_without_opencv_and_says_how_to_get_it():
    command = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(DependencyError.__module__)
    assert "opencv-python-headless: pip install 'sillar[vision]'" in last


FAULTS = {
    "Flip: p must be a number in [0, 1], got 2": lambda: Flip(2),
    "Crop: padding must be pixels, an integer >= 0, got 1.5": lambda: Crop(1.5),
    "Shift: pixels must be pixels, an integer >= 0, got -1": lambda: Shift(-1),
    "Rotation: degrees must be a number in [0, 180], got 200": lambda: Rotation(200),
    "Noise: std must be a number in [0, inf], got -0.1": lambda: Noise(-0.1),
    "Brightness: limit must be a number in [0, 1], got nan": lambda: Brightness(np.nan),
    "Augment: expected changes such as Flip(), got str": lambda: Augment(["Flip"]),
}


@pytest.mark.parametrize("said", FAULTS)
def test_what_is_out_of_range_is_refused(said):
    with pytest.raises(ConfigError) as caught:
        FAULTS[said]()
    assert str(caught.value).startswith(said)


def test_what_is_no_image_is_refused():
    with pytest.raises(ShapeError, match=r"augment takes images.*float32 \(3, 17\)"):
        DataLoader(Dataset(np.zeros((3, 17), "f4"), np.arange(3)), augment=[Flip()])
    loader = DataLoader(Dataset(pictures(3), np.arange(3)), augment=[Crop(17)])
    with pytest.raises(DataError, match=r"row 0.*padding must be below the 17 by 23"):
        next(iter(loader))
    assert issubclass(Flip, Augmentation)
