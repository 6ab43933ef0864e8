"""Models of text: trained by a recipe, resumed, measured, and asked for samples."""

import json
import math
import re

import numpy as np
import pytest
from command_line import as_json, sillar

import sillar as sl
from sillar import nn
from sillar.cli.recipe import built_in, changed, checked, read_recipe
from sillar.cli.sources import source
from sillar.data import text_windows
from sillar.errors import ConfigError

SMALL = (
    *("--set", "data.context=16", "--set", "data.windows=120", "--epochs", 2),
    *("--set", "model.layers.0.context=16", "--set", "model.layers.0.blocks=1"),
    *("--set", "model.layers.0.width=16", "--set", "model.layers.0.heads=2"),
    *("--set", "schedule.steps=5"),
)
SHORT = (
    *("--epochs", 2, "--set", "model.layers.1.n_hidden=12"),
    *("--set", "model.layers.2.n_in=12"),
)
WORDS = ["stone", "wall", "arch", "lintel", "mortar", "chisel", "mason", "vault"]


@pytest.fixture(scope="module")
def poem(tmp_path_factory):
    """Return a text of a few thousand characters; z is in its last tenth alone."""
    rng = np.random.default_rng(0)
    words = rng.choice(WORDS, 600)
    path = tmp_path_factory.mktemp("text") / "poem.txt"
    path.write_text("\n".join(" ".join(words[i : i + 6]) for i in range(0, 600, 6)))
    path.write_text(path.read_text() + " z\n")
    return path


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Return a file of lines, many of them equal, with empty ones between."""
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("lines") / "names.txt"
    lines = [
        "".join(rng.choice(list("aeilnor"), rng.integers(2, 7))) for _ in range(99)
    ]
    path.write_text("\n".join([*lines, "", *lines[:40], "  ", ""]))
    return path


@pytest.fixture(scope="module")
def poem_run(poem):
    sillar("train", "text", "--data", poem, *SMALL, "--out", poem.parent / "run")
    return poem.parent / "run"


@pytest.fixture(scope="module")
def names_run(names):
    out = names.parent / "run"
    sillar("train", "names-gru", "--data", names, *SHORT, "--out", out)
    return out


def parts(recipe, file, *changes):
    tables = changed(read_recipe(recipe)[1], [("data.folder", str(file)), *changes])
    return source(checked(tables)).parts(0)


def text_of(part):
    return "".join(part.classes[n] for n in [part.x[0, 0], *part.y.reshape(-1)])


# What is trained on, and what is tested on


def test_the_end_of_a_text_is_tested_on_and_never_trained_on(poem):
    text = poem.read_text()
    kept = int(len(text) * 0.9)
    train, validation, test = parts("text", poem)
    assert validation is None
    assert train.x.shape == (12_000, 64)
    assert tuple(sorted(set(text))) == train.classes == test.classes
    starts = {"".join(train.classes[n] for n in row[:64]) for row in train.x}
    assert all(piece in text[: kept - 1] for piece in starts)
    last = "".join(train.classes[n] for n in train.y[-1])
    assert text[kept - 64 : kept] == last
    whole = 1 + 64 * ((len(text) - kept - 1) // 64)
    assert text[kept : kept + whole] == text_of(test)


def test_a_validation_part_lies_before_the_test_part(poem):
    text = poem.read_text()
    kept = int(len(text) * 0.9)
    changes = (("data.validation", 0.2), ("data.windows", 0))
    train, validation, _ = parts("text", poem, *changes)
    begin = int(kept * 0.8)
    assert text[:begin].startswith(text_of(train))
    assert text[begin:kept].startswith(text_of(validation))
    assert len(text_of(train)) > begin - 64


def test_equal_lines_are_in_one_part_and_none_is_lost(names):
    found = parts("names-lstm", names, ("data.validation", 0.2))
    rows = [[tuple(row[row >= 0]) for row in part.y] for part in found]
    assert all(not set(a) & set(b) for a in rows for b in rows if a is not b)
    lines = [line for line in names.read_text().split("\n") if line]
    assert len(lines) == sum(map(len, rows))
    assert len(set(lines)) == len(set().union(*rows))
    assert len(set(rows[2])) == round(0.1 * len(set(lines)))
    again = parts("names-lstm", names, ("data.split_seed", 1))
    assert again.digests()["test"] != found.digests()["test"]


# Training


def test_a_text_trains_and_is_measured_in_nats_and_bits(poem, poem_run):
    metrics = json.loads((poem_run / "run.json").read_text())["metrics"]
    log = (poem_run / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in log]
    assert [row["step"] for row in rows] == [10, 20]
    assert rows[1]["loss"] < rows[0]["loss"] < math.log(len(set(poem.read_text())))
    assert metrics["bits_per_character"] == pytest.approx(metrics["loss"] / math.log(2))
    assert metrics == as_json("evaluate", poem_run)["metrics"]
    text = poem.read_text()
    held = text[int(len(text) * 0.9) :]
    test = text_windows(held, 16, classes=sorted(set(text)))
    logits = sl.predict(sl.load(poem_run / "model.safetensors"), test.x)
    z = logits.astype(np.float64)
    z -= z.max(axis=-1, keepdims=True)
    p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    nats = -np.take_along_axis(p, test.y[..., None], -1).mean()
    assert nats == pytest.approx(metrics["loss"], rel=1e-5)
    assert metrics["samples"] == test.y.size


def test_lines_are_measured_without_what_fills_them_up(names_run, names):
    metrics = json.loads((names_run / "run.json").read_text())["metrics"]
    test = parts("names-gru", names).test
    assert metrics["samples"] == test.answers().size < test.y.size
    logits = sl.predict(sl.load(names_run / "model.safetensors"), test.x)
    z = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    kept = test.ignored != test.y
    nats = -p[kept][np.arange(kept.sum()), test.y[kept]].mean()
    assert nats == pytest.approx(metrics["loss"], rel=1e-5)


@pytest.mark.parametrize("kind", ["poem", "names"])
def test_a_run_that_goes_on_ends_in_the_same_bits(kind, request, tmp_path):
    whole, file = (request.getfixturevalue(n) for n in (f"{kind}_run", kind))
    recipe, small = {"poem": ("text", SMALL), "names": ("names-gru", SHORT)}[kind]
    less = ("--epochs", 1, "--set", "schedule={}")
    for run, epochs in ((tmp_path / "a", 1), (tmp_path / "b", 2)):
        options = (*small, *less, "--epochs", epochs)
        sillar("train", recipe, "--data", file, *options, "--out", run)
    sillar("train", "--resume", tmp_path / "a", "--epochs", 2)
    first, second = ((tmp_path / n / "model.safetensors").read_bytes() for n in "ab")
    assert first == second != (whole / "model.safetensors").read_bytes()


def test_the_recipes_are_as_long_as_they_say(poem):
    assert 2 * len(parts("text", poem).train) // 12 == 2000
    for name in ("names-gru", "names-lstm", "text"):
        assert name in built_in()


def test_the_word_classes_needs_classes(two_moons, in_process):
    changes = ("--set", 'model.layers.2.n_out="classes"')
    out = two_moons / "counted"
    in_process("train", two_moons / "csv.toml", *changes, "--out", out)
    assert sl.load(out / "model.safetensors")[2].bias.shape == (2,)
    numbers = (*changes, "--set", "data.target='u'", "--set", "data.path='uv.csv'")
    (two_moons / "uv.csv").write_text("u,v,w\n1.5,2,3\n2.5,3,4\n3.5,4,5\n4.5,1,2\n")
    message = in_process("train", two_moons / "csv.toml", *numbers, code=2)
    assert '"classes" stands for what the data has' in message


# Mistakes, and files that nobody vouches for


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "expected UTF-8 text"),
        (b"abc\0def" * 99, "NUL characters"),
        (b"", "an empty file"),
        (b"too short", "the train part has 8 characters"),
        (b"x" * 100, "the test part has 10 characters"),
    ],
)
def test_a_file_that_is_no_text_is_refused(data, message, tmp_path, in_process):
    (tmp_path / "file").write_bytes(data)
    out = tmp_path / "run"
    options = ("--data", tmp_path / "file", "--out", out)
    assert message in in_process("train", "text", *options, code=2)
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--set", "data.test=1.5"), "test must be a share in (0, 1), got 1.5"),
        (("--set", "data.test=3"), "test must be a share in (0, 1), got 3"),
        (("--set", "data.validation=7"), "validation must be a share in (0, 1)"),
        (("--set", "data.windows=-1"), "windows must be an integer of at least 0"),
        (("--set", "data.windows=true"), "windows must be an integer"),
        (("--set", "data.context=0"), "expected context to be from 1"),
        (("--set", "data.context=65"), "n at most 64"),
        (("--set", "data.stride=3"), "unknown ['stride']"),
    ],
)
def test_options_of_a_text_that_cannot_be_are_refused(
    changes, message, poem, in_process
):
    assert message in in_process("train", "text", "--data", poem, *changes, code=2)


def test_a_text_must_be_named(tmp_path, in_process, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for options in ((), ("--data", tmp_path)):
        message = in_process("train", "text", *options, code=2)
        assert "name it with --data FILE" in message
    message = in_process("train", "text", "--data", tmp_path / "no", code=2)
    assert "got nothing at this path" in message


def test_lines_that_cannot_be_are_refused(tmp_path, in_process):
    path = tmp_path / "lines"
    for text, message in (
        ("a" * 32 + "\nb\n", "a line has 32 characters"),
        ("\n\n\n", "at least two different lines"),
        ("a\na\n", "at least two different lines"),
    ):
        path.write_text(text)
        assert message in in_process("train", "names-lstm", "--data", path, code=2)


def test_a_recipe_of_ones_own_finds_its_text_beside_it(poem, in_process):
    text = built_in()["text"].read_text().replace("[data]", '[data]\npath = "poem.txt"')
    (poem.parent / "own.toml").write_text(text)
    tables = checked(read_recipe(str(poem.parent / "own.toml"))[1])
    assert len(source(tables).parts(0).train) == 12_000
    tables["data"]["folder"] = str(poem)  # as --data does
    assert len(source(tables).parts(0).train) == 12_000


# Samples


def test_samples_begin_with_the_prompt_and_repeat(poem_run, in_process):
    options = ("--prompt", "stone ", "--length", 30, "--seed", 3)
    first = in_process("sample", poem_run, *options)
    assert first.startswith("stone ")
    assert len(first) == 6 + 30 + 1
    assert first == in_process("sample", poem_run / "model.safetensors", *options)
    assert first != in_process("sample", poem_run, *options[:-1], 4)
    assert len(in_process("sample", poem_run)) == 501
    result = json.loads(in_process("sample", poem_run, *options, "--json"))
    assert result["samples"] == [first[:-1]]
    assert {k: result[k] for k in ("prompt", "seed", "temperature", "top_k")} == {
        "prompt": "stone ",
        "seed": 3,
        "temperature": 1.0,
        "top_k": None,
    }


def test_the_coldest_sample_is_the_greedy_one(poem_run, in_process):
    options = ("--prompt", "wall", "--length", 40)
    greedy = in_process("sample", poem_run, *options, "--temperature", 0)
    assert greedy == in_process("sample", poem_run, *options, "--top-k", 1)
    model = sl.load(poem_run / "model.safetensors")
    classes = sorted(set("".join(WORDS)) | {"\n", " ", "z"})
    text = "wall"
    for _ in range(40):
        x = np.array([[classes.index(c) for c in text[-16:]]])
        text += classes[int(model(x).numpy()[0, -1].argmax())]
    assert f"{text}\n" == greedy


def test_lines_are_written_to_their_end(names_run, in_process):
    out = in_process("sample", names_run, "--count", 5, "--prompt", "al")
    assert len(out.splitlines()) == 5
    assert all(line.startswith("al") for line in out.splitlines())
    fourth = in_process("sample", names_run, "--seed", 3, "--prompt", "al")
    assert out.splitlines()[3] == fourth.strip("\n")
    assert in_process("sample", names_run, "--length", 0, "--prompt", "a") == "a\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prompt", "año"), "--prompt: the character 'ñ' is not among the"),
        (("--temperature", -1), "temperature must be in [0, inf)"),
        (("--temperature", "nan"), "temperature must be in [0, inf)"),
        (("--top-k", 0), "top-k"),
        (("--length", -1), "length"),
        (("--count", 0), "count"),
        (("--seed", -1), "seed must be an integer >= 0"),
    ],
)
def test_samples_that_cannot_be_are_refused(options, message, poem_run, in_process):
    assert message in in_process("sample", poem_run, *options, code=2)


def test_a_line_begins_with_one_line(names_run, in_process):
    message = in_process("sample", names_run, "--prompt", "a\nb", code=2)
    assert "writes one line" in message


def test_other_models_are_told_apart(digits_run, plain_model, poem_run, in_process):
    for model in (digits_run, plain_model):
        assert "is no character model" in in_process("sample", model, code=2)
    message = in_process("predict", poem_run, "nothing.npy", code=2)
    assert "is a character model: see what it writes with sillar sample" in message


GOOD = {"text": "windows", "classes": ["\n", "a", "b"], "input": [4]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": "chapters"}, "the note text is unknown"),
        ({"text": ["windows"]}, "the note text is unknown"),
        ({"classes": ["a", "b"]}, "the model tells 3 characters apart"),
        ({"classes": ["a", "b", "bc"]}, "expected different characters"),
        ({"classes": ["a", "b", "b"]}, "expected different characters"),
        ({"classes": ["a", "b", 3]}, "expected different characters"),
        ({"classes": "abc"}, "expected different characters"),
        ({"classes": []}, "its notes name 0"),
        ({"text": "lines", "classes": ["a", "b", "c"]}, "expected different"),
        ({"input": [4, 4]}, "one size as input"),
        ({"input": None}, "one size as input"),
        ({"input": [-4]}, "the note input is no shape"),
    ],
)
def test_notes_that_lie_are_refused(change, message, tmp_path, in_process):
    model = nn.GPT(3, 8, blocks=1, heads=2, context=4).init(sl.Rng(0))
    path = tmp_path / "model.safetensors"
    sl.save(model, path, **GOOD)
    assert len(in_process("sample", path, "--length", 5)) == 6
    sl.save(model, path, **GOOD | change)
    assert message in in_process("sample", path, code=2)


def test_characters_that_act_on_a_terminal_are_not_printed(tmp_path, in_process):
    model = nn.GPT(3, 8, blocks=1, heads=2, context=4).init(sl.Rng(0))
    path = tmp_path / "model.safetensors"
    sl.save(model, path, **GOOD | {"classes": ["\x1b", "\x07", "\u202e"]})
    out = in_process("sample", path, "--length", 20)
    assert re.fullmatch(r"(\\x1b|\\x07|\\u202e){20}\n", out)


def test_a_model_whose_logits_are_nothing_to_draw_from_is_refused(tmp_path, in_process):
    path = tmp_path / "model.safetensors"
    wide = nn.Sequential(nn.Dense(4, 3)).init(sl.Rng(0))
    sl.save(wide, path, **GOOD)
    assert in_process("sample", path, code=2)
    broken = nn.GPT(3, 8, blocks=1, heads=2, context=4).init(sl.Rng(0))
    broken.parameters().vector[:] = np.nan
    sl.save(broken, path, **GOOD)
    assert "gives NaN or infinity" in in_process("sample", path, code=2)


def test_text_appears_as_it_is_drawn(poem_run, monkeypatch):
    import io
    import sys

    from sillar.cli import main

    moments = []

    class Output(io.StringIO):
        def flush(self):
            moments.append(len(self.getvalue()))

    monkeypatch.setattr(sys, "stdout", Output())
    main(["sample", str(poem_run), "--length", "5", "--prompt", "wall"])
    assert {4, 5, 6, 7, 8, 9} <= set(moments)


# The data that the recipes are for


def test_the_recipes_fit_the_data_they_are_for(shared_data):
    text = shared_data / "tiny-shakespeare" / "train.txt"
    if not text.exists():
        pytest.skip(f"no {text}")
    train, _, test = parts("text", text)
    assert (len(train), len(train.classes), len(test)) == (12_000, 65, 1568)
    train, _, test = parts("names-lstm", shared_data / "names" / "names.txt")
    assert (len(train.classes), train.x.shape[1]) == (27, 16)
    assert len(train) + len(test) == 25_626


def test_a_source_names_what_it_is_given_wrongly():
    tables = read_recipe("text")[1]
    tables["data"]["context"] = "long"
    with pytest.raises(ConfigError, match="context must be an integer"):
        source(checked(tables))
