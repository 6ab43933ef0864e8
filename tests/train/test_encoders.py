"""Encoders in model files: from a closed list, and whatever the file says."""

import json

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.data import (
    CharTokenizer,
    LogTokenizer,
    LogWindows,
    TableTransform,
    WordTokenizer,
)
from sillar.data.encoders import ENCODERS
from sillar.errors import ConfigError, FormatError
from sillar.files import write_arrays

TEXTS = ["buy now 1", "hello you"]
FITTED = {
    "CharTokenizer": (CharTokenizer().fit(TEXTS), TEXTS),
    "WordTokenizer": (WordTokenizer(length=3).fit(TEXTS), TEXTS),
    "LogTokenizer": (LogTokenizer().fit(TEXTS), TEXTS),
    "LogWindows": (LogWindows(1).fit(TEXTS), TEXTS),
    "TableTransform": (
        TableTransform().fit({"a": ["1", "", "3"], "b": ["x", "y", "x"]}),
        {"b": ["z", "x"], "a": ["2", "?"]},
    ),
}


def test_every_encoder_has_a_case():
    assert set(ENCODERS) == set(FITTED)


@pytest.mark.parametrize(("encoder", "rows"), FITTED.values(), ids=FITTED)
def test_an_encoder_goes_with_its_model(encoder, rows, tmp_path):
    path = tmp_path / "model.safetensors"
    sl.save(nn.Dense(2, 2).init(sl.Rng(0)), path, encoder=encoder, classes=["a", "b"])
    again = sl.load_encoder(path)
    assert type(again) is type(encoder)
    np.testing.assert_array_equal(encoder(rows), again(rows), strict=True)
    assert nn.Dense(2, 2).init(sl.Rng(0)).state().keys() == sl.load(path).state().keys()


def test_a_model_without_one(tmp_path):
    path = tmp_path / "model.safetensors"
    sl.save(nn.Dense(2, 2).init(sl.Rng(0)), path)
    assert sl.load_encoder(path) is None
    with pytest.raises(ConfigError, match="expected an encoder"):
        sl.save(nn.Dense(2, 2).init(sl.Rng(0)), path, encoder=len)
    with pytest.raises(ConfigError, match="call fit"):
        sl.save(nn.Dense(2, 2).init(sl.Rng(0)), path, encoder=CharTokenizer())


DEEP = "[" * 900 + "]" * 900


@pytest.mark.parametrize(
    "described",
    [
        '"pickle"',
        '{"type": "System"}',
        f'{{"type": {DEEP}}}',
        *(f'{{"type": "{name}", "templates": {DEEP}}}' for name in ENCODERS),
        *(f'{{"type": "{name}", "columns": {DEEP}}}' for name in ENCODERS),
        '{"type": "LogTokenizer", "similarity": true, "depth": 1e99,'
        ' "max_templates": 1, "templates": []}',
    ],
)
def test_a_hostile_file_is_refused(described, tmp_path):
    path = tmp_path / "hostile.safetensors"
    text = f'{{"version": 1, "notes": {{"encoder": {described}}}}}'
    assert json.loads(text)
    write_arrays(path, {}, {"sillar": text})
    with pytest.raises(FormatError, match="hostile"):
        sl.load_encoder(path)
