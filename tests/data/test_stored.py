"""Rows that stay in their files are those that the readers read."""

import pickle
import threading

import numpy as np
import pytest

from sillar.data import (
    DataLoader,
    Dataset,
    open_csv,
    open_npy,
    open_parquet,
    read_csv,
    read_npy,
)
from sillar.data import parquet as parquet_module
from sillar.errors import ConfigError, DataError, DependencyError, ShapeError


def arrays(n=300):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 6)).astype("f4"), rng.integers(0, 2, n)


def csv_file(folder, *, quotes=False, end="\n", header=True, n=300):
    """Write a table whose answers stand in the middle."""
    x, y = arrays(n)
    words = np.array(['"be,nign"' if quotes else "benign", "attack"])[y]
    lines = ["a,b,c,kind,d,e,f"] if header else []
    lines += [
        ",".join([*map(str, row[:3]), word, *map(str, row[3:])])
        for row, word in zip(x.tolist(), words, strict=True)
    ]
    path = folder / "flows.csv"
    path.write_bytes((end.join(lines) + end).encode())
    return path


def parquet_file(folder, *, rows=70, **more):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    x, y = arrays()
    columns = {name: x[:, i] for i, name in enumerate("abc")}
    columns |= {"kind": np.array(["benign", "attack"])[y]}
    columns |= {name: x[:, i + 3] for i, name in enumerate("def")} | more
    path = folder / "flows.parquet"
    parquet.write_table(pa.table(columns), path, row_group_size=rows)
    return path


def assert_same(expected, got):
    """Compare a data set in memory with a stored one, in every way of reading."""
    assert expected.name == got.name
    assert (expected.classes, expected.digest()) == (got.classes, got.digest())
    np.testing.assert_array_equal(expected.x, got.x[:])
    rows = np.random.default_rng(1).permutation(len(expected))[:50]
    np.testing.assert_array_equal(expected.x[rows], got[rows].x[:])
    np.testing.assert_array_equal(expected.x[rows][::3], got[rows][::3].x[:])
    np.testing.assert_array_equal(expected.x[-2:], got.x[[-2, -1]])
    ours, theirs = (d.split(0.3, seed=1, stratify=True)[1] for d in (expected, got))
    np.testing.assert_array_equal(ours.x, theirs.x[:])
    batches = [list(DataLoader(d, 32, shuffle=True)) for d in (expected, got)]
    with DataLoader(got, 32, shuffle=True, workers=2) as loader:
        batches.append(list(loader))
    for one, two, three in zip(*batches, strict=True):
        for a, b, c in zip(one, two, three, strict=True):
            assert a.tobytes() == b.tobytes() == c.tobytes()


@pytest.mark.parametrize("dtype", ["?", "u1", "<i4", ">f4", "f8", "f2"])
def test_npy_rows(dtype, tmp_path):
    x, y = arrays()
    np.save(tmp_path / "x.npy", (x * 9).astype(dtype).reshape(300, 3, 2))
    name = tmp_path / "x.npy"
    stored = Dataset(open_npy(name), y)
    assert stored.x.dtype.isnative
    assert_same(Dataset(read_npy(name), y), stored)


@pytest.mark.parametrize("quotes", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_csv_rows(quotes, end, header, dtype, tmp_path):
    path = csv_file(tmp_path, quotes=quotes, end=end, header=header)
    options = {"target": "kind" if header else 3, "dtype": dtype}
    assert_same(read_csv(path, **options), open_csv(path, **options))


def test_csv_without_answers_and_with_numbers_as_answers(tmp_path):
    path = tmp_path / "n.csv"
    path.write_bytes(b"\xef\xbb\xbfa;b\n1;2\n3;4.5\n5;6\n\n\n")
    np.testing.assert_array_equal(
        read_csv(path, delimiter=";"), open_csv(path, delimiter=";")[:]
    )
    for target in ("a", "b", 0, -1):
        one = read_csv(path, delimiter=";", target=target)
        other = open_csv(path, delimiter=";", target=target)
        assert one.y.dtype == other.y.dtype
        assert one.digest() == other.digest()


@pytest.mark.parametrize("rows", [1, 70, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parquet_rows(rows, dtype, tmp_path):
    path = parquet_file(tmp_path, rows=rows)
    expected = read_csv(csv_file(tmp_path), target="kind", dtype=dtype)
    got = open_parquet(path, target="kind", dtype=dtype)
    np.testing.assert_allclose(expected.x, got.x[:], rtol=1e-6)
    assert_same(Dataset(got.x[:], got.y, got.classes, got.name), got)
    np.testing.assert_array_equal(expected.y, got.y)


def test_parquet_keeps_no_more_groups_than_fit(tmp_path, monkeypatch):
    path = parquet_file(tmp_path, rows=10)
    monkeypatch.setattr(parquet_module, "_KEPT", 3 * 10 * 6 * 4)
    stored = open_parquet(path, target="kind").x
    for number in np.random.default_rng(0).permutation(300):
        stored.row(int(number))
        assert len(stored._groups) <= 3


def test_a_stored_array_travels_as_a_path(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((10_000, 100)))
    assert len(pickle.dumps(open_npy(tmp_path / "x.npy"))) < 1000
    stored = open_csv(csv_file(tmp_path, n=3000), target="kind").x
    stored.row(7)
    assert len(pickle.dumps(stored)) < 3000


def test_threads_may_read_one_file(tmp_path):
    stored = open_csv(csv_file(tmp_path), target="kind").x
    expected, wrong = arrays()[0], []

    def look(seed):
        for row in np.random.default_rng(seed).integers(0, 300, 2000):
            if not np.array_equal(stored.row(int(row)), expected[row]):
                wrong.append(row)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


CSV_FAULTS = {
    "a,b\n1,2\n3\n": "line 3: expected 2 cells as in line 1, got 1",
    "a,b\n1,2\n\n3,4\n": "line 3: expected a row, got a blank line",
    "a,b\n": "expected rows below the header, got none",
    'a,b\n"1,2\n3,4\n': "line 2: expected cells with closed, doubled quotes",
    "a,b\n1,\n": "line 2, target column: expected an answer, got an empty cell",
    "a,b\n1,x\n1,2\n": "line 3, target column: expected a word as before, got '2'",
    "a,b\n1,2\n1,x\n": "line 3, target column: expected a integer as before, got 'x'",
    "a,b\n1,99999999999999999999\n": "expected an integer of 64 bits",
    "a,a\n1,2\n": "different column names",
    "a\0,b\n1,2\n": "expected text, got packed or binary data",
}


@pytest.mark.parametrize("text", CSV_FAULTS)
def test_a_broken_csv_is_refused_when_it_is_opened(text, tmp_path):
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=r"broken\.csv") as caught:
        open_csv(path, target=-1)
    assert CSV_FAULTS[text] in str(caught.value)


@pytest.mark.parametrize("cell", ["many", "", "nan", "1e999", "1_0", "\u0663"])
def test_a_wrong_number_is_named_when_its_row_is_read(cell, tmp_path):
    path = tmp_path / "wrong.csv"
    path.write_text(f"a,b\n1,2\n{cell},4\n")
    data = open_csv(path, target="b")
    with pytest.raises(DataError, match=r"row 1 cannot.*wrong\.csv': line 3: expected"):
        list(DataLoader(data, 2))


def test_a_file_that_changed_is_noticed(tmp_path):
    path = csv_file(tmp_path)
    data = open_csv(path, target="kind")
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="the file has changed"):
        data.x.row(299)


def test_npy_files_that_cannot_be_mapped_are_refused(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(np.zeros((4, 3))))
    with pytest.raises(ShapeError, match="Fortran order"):
        open_npy(tmp_path / "f.npy")
    np.save(tmp_path / "s.npy", np.array(["text"]))
    with pytest.raises(DataError, match="expected numbers with one row per example"):
        open_npy(tmp_path / "s.npy")
    np.save(tmp_path / "c.npy", np.zeros((4, 3)))
    data = (tmp_path / "c.npy").read_bytes()
    (tmp_path / "c.npy").write_bytes(data[:-1])
    with pytest.raises(DataError, match="expected 96 bytes after the header, got 95"):
        open_npy(tmp_path / "c.npy")
    np.save(tmp_path / "e.npy", np.zeros((0, 3)))
    assert open_npy(tmp_path / "e.npy")[:].shape == (0, 3)


def test_parquet_faults(tmp_path):
    path = parquet_file(tmp_path, g=np.array([*range(250), None] + [1] * 49, object))
    with pytest.raises(DataError, match=r"row 250, column 'g': expected a finite"):
        open_parquet(path, target="kind").x.row(251)
    with pytest.raises(DataError, match="expected numbers in column 'kind', got"):
        open_parquet(path)
    with pytest.raises(ConfigError, match="target to be one of the columns 'a', 'b'"):
        open_parquet(path, target="no")
    path.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(DataError, match="expected a Parquet file"):
        open_parquet(path)


def test_a_damaged_parquet_file_is_read_or_refused(tmp_path):
    path = parquet_file(tmp_path)
    whole = path.read_bytes()
    refused, rng = set(), np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 4):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            found = open_parquet(path, target="kind")
            assert len(found.x[:]) == len(found.y)
        except (DataError, ConfigError) as error:  # the target's name may be hit
            refused.add(str(error))
    assert any("expected readable data, got damage" in text for text in refused)


def test_without_pyarrow_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(
        DependencyError, match=r"needs the package pyarrow: pip install"
    ):
        open_parquet(tmp_path / "x.parquet")
