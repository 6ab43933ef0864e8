"""Files of NSL-KDD: what is read, and what is refused."""

import lzma

import numpy as np
import pytest

from sillar.detectors.nsl_kdd import (
    ATTACKS,
    CATEGORY,
    FEATURES,
    TEST,
    TEST_21,
    TRAIN,
    read_nsl_kdd,
)
from sillar.errors import DataError

LINE = ",".join([*["0"] * 41, "neptune", "21"])


def test_the_official_files_are_what_their_authors_say(shared_data):
    folder = shared_data / "nsl-kdd"
    known = read_nsl_kdd(folder)
    test, hard = (read_nsl_kdd(folder, name) for name in (TEST, TEST_21))
    assert np.bincount(known.categories).tolist() == [13449, 9234, 2289, 209, 11]
    assert np.bincount(test.categories).tolist() == [9711, 7460, 2421, 2885, 67]
    assert 11850 == len(hard.kinds) == len(hard.columns["flag"])
    new = set(test.kinds) - set(known.kinds)
    assert {"mscan", "apache2", "snmpguess"} < new
    names = (folder / "columns.txt").read_text().split()
    assert [*FEATURES, "class", "difficulty"] == names
    rows = (folder / "attack_categories.csv").read_text().split()[1:]
    assert dict(row.split(",") for row in rows) == CATEGORY


def test_a_category_names_each_attack_once():
    assert sum(len(kinds.split()) for kinds in ATTACKS.values()) == 39
    assert len(CATEGORY) == 40


def test_plain_and_packed_files_are_the_same(tmp_path):
    (tmp_path / TRAIN).write_text(f"{LINE}\n{LINE}\n")
    (tmp_path / f"{TEST}.xz").write_bytes(lzma.compress(f"{LINE}\n{LINE}\n".encode()))
    plain, packed = read_nsl_kdd(tmp_path), read_nsl_kdd(tmp_path, TEST)
    assert plain.columns == packed.columns
    assert plain.kinds.tolist() == ["neptune", "neptune"]
    assert plain.attacks.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "empty file"),
        (b"\n\n", "expected lines, got none"),
        (LINE.encode() + b"\n1,2,3\n", "line 2: expected 41 features"),
        (LINE.replace("neptune", "saturn").encode(), "line 1: expected 41 features"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_other_files_are_refused(tmp_path, data, text):
    (tmp_path / TRAIN).write_bytes(data)
    with pytest.raises(DataError, match=text):
        read_nsl_kdd(tmp_path)


def test_damaged_packed_files_are_refused(tmp_path):
    whole = lzma.compress(f"{LINE}\n".encode())
    path = tmp_path / f"{TRAIN}.xz"
    path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match="truncated"):
        read_nsl_kdd(tmp_path)
    path.write_bytes(b"\0" * 60)
    with pytest.raises(DataError, match="damage"):
        read_nsl_kdd(tmp_path)
    with pytest.raises(DataError, match="nothing at this path"):
        read_nsl_kdd(tmp_path, TEST)
