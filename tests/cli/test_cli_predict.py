"""`sillar predict`: every kind of input, every kind of output, every mistake."""

import gzip
import json

import numpy as np
import pytest
from command_line import as_json, sillar

import sillar as sl
from sillar import nn

DIGITS = sl.data.digits()[:6]
PIXELS = np.round(DIGITS.x * 16).astype(np.uint8)  # (6, 8, 8, 1), as in the files


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def as_rows(array, names=""):
    rows = [",".join(map(str, row)) for row in array.reshape(len(array), -1).tolist()]
    return names + "\n".join(rows) + "\n"


WRITE = {
    "floats.npy": lambda path: np.save(path, DIGITS.x),
    "pixels.npy": lambda path: np.save(path, PIXELS),
    "double.npy": lambda path: np.save(path, DIGITS.x.astype("float64")),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(DIGITS.x)),
    "no-channel.npy": lambda path: np.save(path, PIXELS[..., 0]),
    "flat.npy": lambda path: np.save(path, DIGITS.x.reshape(6, 64)),
    "alone.npz": lambda path: np.savez(path, images=PIXELS),
    "named.npz": lambda path: np.savez_compressed(path, y=DIGITS.y, x=DIGITS.x),
    "rows.csv": lambda path: path.write_text(as_rows(PIXELS)),
    "shares.csv": lambda path: path.write_text(as_rows(DIGITS.x)),
    "titled.csv": lambda path: path.write_text(
        as_rows(PIXELS, ",".join(f"p{i}" for i in range(64)) + "\n")
    ),
    "digits-idx3-ubyte": lambda path: path.write_bytes(idx(PIXELS[..., 0])),
    "digits.gz": lambda path: path.write_bytes(gzip.compress(idx(PIXELS[..., 0]))),
}


@pytest.mark.parametrize("name", WRITE)
def test_every_kind_of_input_gives_the_same(name, digits_run, tmp_path, in_process):
    WRITE[name](tmp_path / name)
    found = json.loads(in_process("predict", digits_run, tmp_path / name, "--json"))
    logits = sl.predict(sl.load(digits_run / "model.safetensors"), DIGITS.x)
    powers = np.exp(logits.astype("float64"))
    shares = powers / powers.sum(axis=1, keepdims=True)
    assert [row["index"] for row in found["predictions"]] == list(range(6))
    guess = [row["class"] for row in found["predictions"]]
    assert guess == [str(i) for i in logits.argmax(1)]
    likely = [row["probability"] for row in found["predictions"]]
    np.testing.assert_allclose(likely, shares.max(1), rtol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8)])
def test_a_single_example_may_come_without_its_axis(
    shape, digits_run, tmp_path, in_process
):
    np.save(tmp_path / "one.npy", PIXELS[3].reshape(shape))
    found = json.loads(
        in_process("predict", digits_run, tmp_path / "one.npy", "--json")
    )
    assert len(found["predictions"]) == 1


def test_people_get_aligned_columns(digits_run, tmp_path):
    np.save(tmp_path / "x.npy", DIGITS.x)
    lines = sillar("predict", digits_run, tmp_path / "x.npy").stdout.splitlines()
    assert lines[0].split() == ["index", "class", "probability"]
    assert len(lines) == 7
    assert len({len(line) for line in lines[1:]}) == 1
    index, name, share = lines[1].split()
    assert (index, name) == ("0", "0")
    assert 0 < float(share) <= 1


def test_top_shows_the_likeliest_classes_in_order(digits_run, tmp_path):
    np.save(tmp_path / "x.npy", DIGITS.x)
    found = as_json("predict", digits_run, tmp_path / "x.npy", "--top", 3)
    for row in found["predictions"]:
        shares = [c["probability"] for c in row["classes"]]
        assert len(shares) == 3
        assert shares == sorted(shares, reverse=True)
        assert row["class"] == row["classes"][0]["class"]
    everything = as_json("predict", digits_run, tmp_path / "x.npy", "--top", 99)
    total = sum(c["probability"] for c in everything["predictions"][0]["classes"])
    assert np.isclose(1, total)
    out = sillar("predict", digits_run, tmp_path / "x.npy", "--top", 3).stdout
    assert len(out.splitlines()) == 1 + 18


def test_a_model_file_alone_is_enough(digits_run, tmp_path, in_process):
    np.save(tmp_path / "x.npy", DIGITS.x)
    by_run, by_file = (
        json.loads(in_process("predict", target, tmp_path / "x.npy", "--json"))
        for target in (digits_run, digits_run / "model.safetensors")
    )
    assert by_run == by_file


def test_words_of_the_training_file_are_the_classes(moons_run, tmp_path, in_process):
    (tmp_path / "x.csv").write_text("u,v\n0.0,1.0\n1.0,-0.5\n")
    found = json.loads(in_process("predict", moons_run, tmp_path / "x.csv", "--json"))
    assert [row["class"] for row in found["predictions"]] == ["benign", "malware"]


def test_a_file_without_notes_numbers_its_classes(plain_model, tmp_path, in_process):
    np.save(tmp_path / "x.npy", np.ones((2, 4)))
    found = json.loads(in_process("predict", plain_model, tmp_path / "x.npy", "--json"))
    assert {row["class"] for row in found["predictions"]} <= {"0", "1", "2"}
    np.save(tmp_path / "x.npy", np.ones((2, 5)))
    message = in_process("predict", plain_model, tmp_path / "x.npy", code=2)
    assert "expected input (..., 4)" in message


def save(path, *layers, **notes):
    sl.save(nn.Sequential(*layers).init(sl.Rng(0)), path, **notes)
    return path


def test_values_are_shown_as_they_are(tmp_path, in_process):
    model = save(tmp_path / "m.safetensors", nn.Dense(2, 1), classes=None)
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    found = json.loads(in_process("predict", model, tmp_path / "x.npy", "--json"))
    assert len(found["predictions"][0]["outputs"]) == 1
    out = in_process("predict", model, tmp_path / "x.npy")
    assert out.splitlines()[0].split() == ["index", "output"]


def test_probabilities_that_the_model_gives_are_not_made_again(tmp_path, in_process):
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    for last, classes in ((nn.Softmax(), 3), (nn.Sigmoid(), 2)):
        width = classes if classes > 2 else 1
        path = tmp_path / "m.safetensors"
        save(path, nn.Dense(2, width), last, classes=[f"c{i}" for i in range(classes)])
        outputs = sl.predict(sl.load(path), np.ones((1, 2)))[0]
        expected = max(outputs) if classes > 2 else max(outputs[0], 1 - outputs[0])
        found = json.loads(in_process("predict", path, tmp_path / "x.npy", "--json"))
        assert np.isclose(expected, found["predictions"][0]["probability"])


def test_an_embedding_takes_integers(tmp_path, in_process):
    model = save(
        tmp_path / "m.safetensors",
        *(nn.Embedding(9, 3), nn.Flatten(), nn.Dense(6, 2)),
        input=[2],
    )
    np.save(tmp_path / "x.npy", np.array([[1, 8], [3, 0]]))
    found = json.loads(in_process("predict", model, tmp_path / "x.npy", "--json"))
    assert len(found["predictions"]) == 2
    np.save(tmp_path / "x.npy", np.array([[1, 9]]))
    assert "[0, 9)" in in_process("predict", model, tmp_path / "x.npy", code=2)


def nan_row():
    x = np.array(DIGITS.x)
    x[4, 1, 1] = np.nan
    return x


MISTAKES = {
    "wrong size": (np.ones((3, 9, 8, 1)), "(n, 8, 8, 1), or rows of 64 numbers"),
    "one column too many": (
        np.ones((3, 65)),
        "rows of 64 numbers; the file has (3, 65)",
    ),
    "channels first": (np.ones((3, 1, 8, 8)), "(n, 8, 8, 1)"),
    "one number": (np.float64(3), "expects examples of shape"),
    "no rows": (np.ones((0, 8, 8, 1)), "holds no examples"),
    "NaN": (nan_row(), "example 4 has NaN or infinite values"),
    "text": (np.array(["a", "b"]), "expected real numbers"),
    "complex": (np.ones((3, 64), complex), "expected real numbers"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_input_that_does_not_fit_is_named(case, digits_run, tmp_path, in_process):
    array, message = MISTAKES[case]
    np.save(tmp_path / "x.npy", array)
    assert message in in_process("predict", digits_run, tmp_path / "x.npy", code=2)


FILES = {
    "none.npy": None,
    "x.npy": b"nothing",
    "x.npz": b"PK nothing",
    "x.csv": b"a,b\nc,d\n",
    "words.csv": b"1,2,three\n",
    "bytes.csv": b"\xff\xfe\0",
    "x.idx": b"\0\0\x08\x03\0\0",
    "x.gz": b"\x1f\x8b nothing",
    "empty.npy": b"",
    "pickled.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False,"
    b" 'shape': (1,), }" + b" " * 60 + b"\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_named(name, digits_run, tmp_path, in_process):
    if FILES[name] is not None:
        (tmp_path / name).write_bytes(FILES[name])
    assert name in in_process("predict", digits_run, tmp_path / name, code=2)


def test_an_archive_of_several_arrays_must_say_which(digits_run, tmp_path, in_process):
    np.savez(tmp_path / "x.npz", a=PIXELS, b=PIXELS)
    message = in_process("predict", digits_run, tmp_path / "x.npz", code=2)
    assert "name the one with the examples x" in message


NOTES = {
    "classes are no list": {"classes": "abc"},
    "too few classes": {"classes": ["a", "b"]},
    "classes that are no text": {"classes": [1, 2, 3]},
    "input is no shape": {"input": "4"},
    "input is negative": {"input": [-4]},
    "input is huge": {"input": [2] * 90},
    "input is true": {"input": [True]},
    "scale is text": {"scale": "16"},
    "scale is zero": {"scale": 0},
    "scale is true": {"scale": True},
}


@pytest.mark.parametrize("case", NOTES)
def test_notes_that_make_no_sense_are_refused(case, tmp_path, in_process):
    model = save(tmp_path / "m.safetensors", nn.Dense(4, 3), **NOTES[case])
    np.save(tmp_path / "x.npy", np.ones((2, 4)))
    assert in_process("predict", model, tmp_path / "x.npy", code=2)


def test_a_model_that_gives_nan_is_named(tmp_path, in_process):
    model = nn.Sequential(nn.Dense(2, 2)).init(sl.Rng(0))
    model.parameters().vector[:] = np.nan
    sl.save(model, tmp_path / "m.safetensors")
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    arguments = ("predict", tmp_path / "m.safetensors", tmp_path / "x.npy")
    assert "gives NaN or infinity" in in_process(*arguments, code=2)


def test_class_names_cannot_act_on_the_terminal(tmp_path, in_process):
    names = ["\x1b[2J", "\u202egpj", "a\nb"]
    model = save(tmp_path / "m.safetensors", nn.Dense(4, 3), classes=names)
    np.save(tmp_path / "x.npy", np.ones((1, 4)))
    out = in_process("predict", model, tmp_path / "x.npy", "--top", 3)
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "\\x1b[2J" in out
    assert len(out.splitlines()) == 4
    found = json.loads(
        in_process("predict", model, tmp_path / "x.npy", "--top", 3, "--json")
    )
    assert {c["class"] for c in found["predictions"][0]["classes"]} == set(names)


def test_top_is_at_least_one(digits_run, in_process):
    assert "--top" in in_process("predict", digits_run, "x.npy", "--top", 0, code=2)


def test_what_is_no_model_is_named(tmp_path, in_process):
    (tmp_path / "x").write_bytes(b"nothing at all")
    for target in ("none.safetensors", "x", "."):
        assert in_process("predict", tmp_path / target, "x.npy", code=2)


def test_raw_texts_are_read_by_the_model_s_tokenizer(tmp_path):
    """One line is one text; what the file holds decides nothing but that."""
    texts = ["buy now", "hello you", "buy pills now", "hi you"]
    tokenizer = sl.data.WordTokenizer(length=3).fit(texts)
    words = nn.Embedding(tokenizer.size, 4), nn.Flatten(), nn.Dense(12, 2)
    model = nn.Sequential(*words).init(sl.Rng(0))
    data = sl.data.Dataset(tokenizer(texts), np.array([1, 0, 1, 0]), ("ham", "spam"))
    sl.fit(model, sl.CrossEntropy(), sl.Adam(0.1), data, epochs=20, callbacks=())
    path = tmp_path / "model.safetensors"
    sl.save(model, path, encoder=tokenizer, classes=["ham", "spam"])
    (tmp_path / "new.txt").write_text("hello you\nbuy now\n")
    found = as_json("predict", path, tmp_path / "new.txt")["predictions"]
    assert [row["class"] for row in found] == ["ham", "spam"]
