"""Rounds of a detector that are done: kept, and taken for these rows only."""

import numpy as np

from sillar.detectors.rounds import Rounds, forget_rounds

HELD = np.array([True, False, True])
OUTPUTS = np.arange(6.0).reshape(2, 3)


def test_a_round_is_read_as_it_was_written(tmp_path):
    kept = Rounds(tmp_path, "settings")
    assert kept.read(1, HELD) is None
    kept.write(1, HELD, OUTPUTS)
    assert (kept.read(1, HELD) == OUTPUTS).all()
    assert kept.read(2, HELD) is None
    forget_rounds(tmp_path)
    assert kept.read(1, HELD) is None
    assert list(tmp_path.iterdir()) == []


def test_other_rows_other_settings_or_a_damaged_file_are_another_round(tmp_path):
    kept = Rounds(tmp_path, "settings")
    kept.write(1, HELD, OUTPUTS)
    assert kept.read(1, ~HELD) is None
    assert Rounds(tmp_path, "more epochs").read(1, HELD) is None
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-8])
    assert kept.read(1, HELD) is None
    kept.write(1, HELD, OUTPUTS)
    assert (kept.read(1, HELD) == OUTPUTS).all()
