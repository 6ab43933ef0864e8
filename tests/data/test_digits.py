import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

import sillar.data
from sillar.data import digits, mnist
from sillar.errors import DataError

FILES = Path(sillar.data.__file__).with_name("files")


def test_digits_are_those_of_scikit_learn():
    source = pytest.importorskip("sklearn.datasets").load_digits()
    data = digits()
    assert data.x.shape == (1797, 8, 8, 1)
    assert (data.x.dtype, data.y.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(data.x[..., 0], source.images / 16)
    np.testing.assert_array_equal(data.y, source.target)
    assert data.classes == tuple(map(str, source.target_names))
    assert (data.name, data.x.min(), data.x.max()) == ("digits", 0, 1)


def test_the_files_are_those_their_readme_names():
    readme = (FILES / "README.md").read_text()
    for path in FILES.glob("*.gz"):
        digest = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
        assert f"{digest}  {path.stem}\n" in readme


def test_digits_are_the_same_for_ever():
    assert digits().digest() == (
        "7bfcc62ac7b425eeb7bca75c005dd5b8209e324978f8b1a605557ccc8a04a5e9"
    )


# MNIST

IMAGES = np.arange(3 * 784).reshape(3, 28, 28).astype(np.uint8)
LABELS = np.array([9, 0, 4], dtype=np.uint8)
CODES = {"uint8": 8, "int8": 9}


def write(path, array):
    code = CODES[str(array.dtype)]
    head = struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    data = head + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_mnist(folder, images=IMAGES, labels=LABELS, part="train", suffix=""):
    write(folder / f"{part}-images-idx3-ubyte{suffix}", images)
    write(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("train", "part"), [(True, "train"), (False, "t10k")])
def test_mnist_reads_plain_and_packed_files(tmp_path, train, part, suffix):
    write_mnist(tmp_path, part=part, suffix=suffix)
    data = mnist(str(tmp_path), train)
    assert data.x.dtype == np.float32
    np.testing.assert_array_equal(data.x[..., 0], IMAGES / np.float32(255))
    assert (data.y.tolist(), data.y.dtype) == ([9, 0, 4], np.int64)
    assert data.classes == tuple("0123456789")
    assert data.name == ("mnist-train" if train else "mnist-test")


def test_missing_files_are_listed(tmp_path):
    write(tmp_path / "train-images-idx3-ubyte", IMAGES)
    with pytest.raises(DataError) as caught:
        mnist(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"mnist: {str(tmp_path)!r}: expected a folder with")
    for part in ("train", "t10k"):
        assert f"{part}-images-idx3-ubyte" in message
        assert f"{part}-labels-idx1-ubyte" in message
    assert "got none of train-labels-idx1-ubyte; download" in message


def test_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match=r"none of t10k-images.*, t10k-labels"):
        mnist(tmp_path / "none", train=False)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (IMAGES, LABELS[:2]),
        (IMAGES[:, :27], LABELS),
        (IMAGES[0], LABELS),
        (IMAGES.astype(np.int8), LABELS),
        (IMAGES, LABELS + 1),
        (IMAGES, LABELS.astype(np.int8)),
        (IMAGES, LABELS[:, None]),
        (IMAGES[0, 0], LABELS),
    ],
)
def test_files_that_are_no_mnist_are_refused(tmp_path, images, labels):
    write_mnist(tmp_path, images, labels)
    with pytest.raises(
        DataError, match=r"^mnist: .*expected uint8 images \(n, 28, 28\)"
    ):
        mnist(tmp_path)


def test_an_empty_mnist_is_an_empty_dataset(tmp_path):
    write_mnist(tmp_path, IMAGES[:0], LABELS[:0])
    assert mnist(tmp_path).x.shape == (0, 28, 28, 1)


def test_the_real_mnist(shared_data):
    data = mnist(shared_data / "mnist", train=False)
    assert data.x.shape == (10_000, 28, 28, 1)
    assert (data.x.min(), data.x.max()) == (0, 1)
    counts = np.bincount(data.y)
    assert (counts.min(), counts.max()) == (892, 1135)
    assert round(float(data.x.mean()), 4) == 0.1325
