"""Recipes: what comes with the package, what TOML may say, and what --set changes."""

import json
import re
import tomllib

import numpy as np
import pytest
from command_line import as_json, recipe, sillar

from sillar.cli.plan import (
    LOSSES,
    OPTIMIZERS,
    PENALTIES,
    SCHEDULES,
    TRANSFORMS,
    build_model,
    make_optimizer,
)
from sillar.cli.recipe import built_in, checked, read_recipe, written
from sillar.core.rng import Rng
from sillar.data import Dataset, mnist
from sillar.nn import Loss
from sillar.optim import Optimizer, Penalty, Schedule, Transform
from sillar.train import predict

RECIPES = (
    *("digits", "intrusion", "mnist", "names-gru", "names-lstm", "one-cycle"),
    *("regression", "table"),
    "text",
)

TWO = Dataset(np.zeros((2, 3)), np.arange(2), ("a", "b"))
VALUES = Dataset(np.zeros((2, 3)), np.arange(2.0))


def test_these_recipes_come_with_the_package():
    assert list(built_in()) == list(RECIPES)


@pytest.mark.parametrize("name", built_in())
def test_every_recipe_of_ours_is_whole(name):
    tables = checked(read_recipe(name)[1])
    data = VALUES if tables["data"].get("values") else TWO
    build_model(tables, data).init(Rng(0))
    make_optimizer(tables, 100)


@pytest.mark.parametrize("name", ["mnist", "one-cycle"])
def test_the_mnist_network_is_that_of_the_keras_example(name):
    tables = checked(read_recipe(name)[1])
    model = build_model(tables).init(Rng(0))
    assert model.parameters().size == 34_826
    assert predict(model, np.zeros((1, 28, 28, 1))).shape == (1, 10)
    weights = [p.data for path, p in model.parameters().items() if "weight" in path]
    for w in weights:  # xavier_uniform: within sqrt(6 / (fan_in + fan_out))
        kernel = int(np.prod(w.shape[:-2]))
        limit = np.sqrt(6 / (kernel * (w.shape[-2] + w.shape[-1])))
        assert 0.9 * limit < np.abs(w).max() <= limit


@pytest.mark.parametrize(
    ("kinds", "base"),
    [
        (LOSSES, Loss),
        (OPTIMIZERS, Optimizer),
        (SCHEDULES, Schedule),
        (TRANSFORMS, Transform),
        (PENALTIES, Penalty),
    ],
)
def test_every_public_class_can_stand_in_a_recipe(kinds, base):
    import sillar as sl

    public = {
        name
        for name in sl.__all__
        if isinstance(getattr(sl, name), type)
        and issubclass(getattr(sl, name), base)
        and getattr(sl, name) is not base
    }
    assert public <= set(kinds)


def test_a_schedule_is_as_long_as_the_run_unless_it_says_otherwise():
    tables = checked(read_recipe("digits")[1])
    tables["schedule"] = {"type": "OneCycle"}
    rate = make_optimizer(tables, 200).lr
    assert (rate.lr, rate.steps) == (0.003, 200)
    tables["schedule"] = {"type": "CosineRestarts", "period": 7, "lr": 0.5}
    del tables["optimizer"]["lr"]
    rate = make_optimizer(tables, 200).lr
    assert (rate.lr, rate.period) == (0.5, 7)
    inner = {"type": "CosineAnnealing", "lr": 0.25}
    tables["schedule"] = {"type": "LinearWarmup", "steps": 50, "schedule": inner}
    rate = make_optimizer(tables, 200).lr
    assert (rate.steps, rate.schedule.steps, rate.schedule.lr) == (50, 150, 0.25)


def test_accumulated_batches_make_a_schedule_shorter(two_moons, tmp_path):
    changes = [
        'schedule={type="OneCycle", pct_start=0.5}',
        'training.transforms=[{type="Accumulate", steps=4}]',
        "training.batch_size=10",
        "training.epochs=2",
    ]
    run = train(two_moons, tmp_path, *changes)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line)["lr"] for line in lines]
    assert rates[0] == pytest.approx(0.1, rel=0.05)  # half-way: the peak
    assert rates[1] < 1e-5  # the end


def train(folder, tmp_path, *changes, name="csv.toml", code=0):
    options = [part for change in changes for part in ("--set", change)]
    done = sillar(
        "train", folder / name, *options, "--out", tmp_path / "run", code=code
    )
    return done.stderr if code else tmp_path / "run"


def test_all_of_a_recipe_ends_up_in_the_record(two_moons, tmp_path):
    run = train(
        two_moons,
        tmp_path,
        "data.validation=0.25",
        'schedule={type="CosineAnnealing"}',
        "training.epochs=3",
        "training.batch_size=16",
        "training.seed=7",
        'training.transforms=[{type="SkipNonFinite"}, {type="ClipNorm", max_norm=1.0}]',
        'training.penalty={type="L2", rate=1e-4, where="*weight"}',
        'training.early_stopping={metric="val_accuracy", patience=5}',
    )
    record = json.loads((run / "run.json").read_text())
    assert record["recipe"]["training"] == {
        "epochs": 3,
        "batch_size": 16,
        "seed": 7,
        "backend": "numpy",
        "device": "cpu",
        "precision": "float32",
        "workers": 0,
        "track": False,
        "ranks": {},
        "transforms": [
            {"type": "SkipNonFinite"},
            {"type": "ClipNorm", "max_norm": 1.0},
        ],
        "penalty": {"type": "L2", "rate": 0.0001, "where": "*weight"},
        "early_stopping": {"metric": "val_accuracy", "patience": 5},
    }
    assert record["seed"] == 7
    assert record["recipe"]["data"]["folder"] == str(two_moons)
    assert set(record["data"]) == {"train", "validation", "test"}
    assert all(re.fullmatch("[0-9a-f]{64}", d) for d in record["data"].values())
    assert set(record["versions"]) == {"sillar", "python", "numpy"}
    assert record["blas"][0]["threads"] >= 1
    assert record["processor"]
    assert record["platform"]
    assert record["started"] <= record["ended"]
    assert record["reason"] == "all 3 epochs are done"
    assert record["metrics"]["samples"] == 80
    assert record["metrics"]["accuracy"] > 0.8


SOURCES = {
    "two files": (["data.path='train.csv'", "data.test_path='test.csv'"], 100),
    "a share": (["data.test=0.5"], 200),
    "a number of rows": (["data.test=40"], 40),
    "a column by number": (["data.target=2"], 80),
    "classes in another order": (["data.classes=['malware', 'benign']"], 80),
    "arrays": (
        ["data={source='npz', path='all.npz', folder='FOLDER', classes=['a', 'b']}"],
        80,
    ),
    "arrays of the same file": (
        [
            "data={source='npz', path='all.npz', test_path='all.npz', folder='FOLDER',"
            " x_test='x', y_test='y', stratify=false}"
        ],
        400,
    ),
}


@pytest.mark.parametrize("case", SOURCES)
def test_data_comes_from_files(case, two_moons, tmp_path):
    changes, tested = SOURCES[case]
    changes = [change.replace("FOLDER", str(two_moons)) for change in changes]
    run = train(two_moons, tmp_path, *changes)
    metrics = json.loads((run / "run.json").read_text())["metrics"]
    assert metrics["samples"] == tested
    assert metrics["accuracy"] > 0.9
    names = [row["class"] for row in metrics["per_class"]]
    assert names in (
        ["benign", "malware"],
        ["malware", "benign"],
        ["a", "b"],
        ["0", "1"],
    )
    if case == "classes in another order":
        assert names[0] == "malware"


def test_regression_on_values(two_moons, tmp_path):
    text = recipe(
        "source = 'npz'",
        "path = 'all.npz'",
        "y = 'z'",
        target="",
        outputs=1,
        loss="MSE",
    )
    (two_moons / "values.toml").write_text(text)
    run = train(two_moons, tmp_path, name="values.toml")
    metrics = json.loads((run / "run.json").read_text())["metrics"]
    assert metrics["r2"] > 0.9
    assert set(metrics) == {"loss", "mse", "mae", "r2", "baselines"}
    assert as_json("evaluate", run)["metrics"] == metrics
    assert "mean squared error" in sillar("evaluate", run).stdout


def test_one_output_and_binary_cross_entropy(two_moons, tmp_path):
    text = recipe(
        "source = 'npz'", "path = 'all.npz'", target="", outputs=1,
        loss="BinaryCrossEntropy",
    )  # fmt: skip
    (two_moons / "binary.toml").write_text(text)
    run = train(two_moons, tmp_path, name="binary.toml")
    assert json.loads((run / "run.json").read_text())["metrics"]["accuracy"] > 0.9
    found = as_json("predict", run, two_moons / "all.npz")["predictions"]
    truth = np.load(two_moons / "all.npz")["y"]
    guess = np.array([int(row["class"]) for row in found])
    assert np.mean(guess == truth) > 0.9


@pytest.fixture(scope="module")
def small_mnist(tmp_path_factory, shared_data):
    """Return a folder with the first images of MNIST, as IDX files."""
    folder = tmp_path_factory.mktemp("mnist")
    for train_part, stem, count in ((True, "train", 256), (False, "t10k", 64)):
        part = mnist(shared_data / "mnist", train=train_part)[:count]
        images = np.round(part.x * 255).astype(np.uint8)
        header = np.array([0x0803, count, 28, 28], ">i4").tobytes()
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = np.array([0x0801, count], ">i4").tobytes()
        labels = part.y.astype(np.uint8)
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return folder


def test_mnist_is_trained_tested_and_predicted_from_idx_files(small_mnist, tmp_path):
    run = tmp_path / "run"
    found = as_json(
        "train", "one-cycle", "--data", small_mnist, "--out", run, "--epochs", 1
    )
    assert found["metrics"]["samples"] == 64
    images = small_mnist / "t10k-images-idx3-ubyte"
    again = as_json("predict", run, images)["predictions"]
    truth = np.fromfile(small_mnist / "t10k-labels-idx1-ubyte", np.uint8)[8:]
    right = np.mean([int(row["class"]) for row in again] == truth)
    assert right == pytest.approx(found["metrics"]["accuracy"])


def test_mnist_asks_for_its_folder(in_process):
    assert "--data DIR" in in_process("train", "mnist", code=2)


WRONG = {  # change -> words of the message
    "datas.x=1": "unknown key 'datas'; known are data, model, loss",
    "data.sauce='csv'": "unknown ['sauce']",
    "data.source='xml'": "unknown source 'xml'; known are digits, mnist, csv, npz",
    "data.path=3": "path must be text",
    "data.path='none.csv'": "nothing at this path",
    "data.target='color'": "expected target to be one of the columns",
    "data.validation='some'": "validation must be a share or a number of rows",
    "data.validation=true": "validation must be a share or a number of rows",
    "data.validation=2.5": "in (0, 1) or a number of rows",
    "data.test=1.5": "in (0, 1) or a number of rows",
    "data.stratify='yes'": "stratify must be true or false",
    "data.split_seed=-1": "split_seed must be an integer of at least 0",
    "data.classes=['benign']": "are not among",
    "data.classes=[]": "are not among",
    "data.classes=3": "classes must be a list of names",
    "data.classes=[1, 2]": "classes must be a list of names",
    "data.test='half'": "test must be a share or a number of rows",
    "data.shape=[3, 3]": "cannot have the shape",
    "data.shape='x'": "cannot have the shape",
    "data.test_path='other.csv'": "nothing at this path",
    "data=3": "data must be a table",
    "data={}": "[data] is missing or empty",
    "model={}": "[model] is missing or empty",
    "model.layer=[]": "Sequential takes (layers)",
    "model.layers=[]": "expected from 1 to",
    "model.layers.0.n_out=9223372036854775807": "expected from 1 to",
    "model.layers.0.n_out=3": "Dense(16, 2): expected input (..., 16)",
    "model.layers.0.n_uot=3": "unknown ['n_uot']",
    "model.layers.0.type='Dance'": "unknown type 'Dance'; known are",
    "model.layers.0.n_out='3'": "n_out must be an integer",
    "model.layers.0.n_out=1000000000000": "",
    "model.layers.9.n_out=3": "a list of 3, counted from 0",
    "model.layers.2.n_out=1": "CrossEntropy",
    "model.layers.x=3": "a list of 3",
    "loss.type='MSS'": "unknown type 'MSS'; known are",
    "loss.gama=1": "CrossEntropy takes",
    "loss.reduction='none'": "reduction mean or sum",
    "loss.type='MSE'": "equal shapes",
    "optimizer.type='Adamant'": "unknown type 'Adamant'; known are",
    "optimizer.lr=-1": "lr must be in [0, inf)",
    "optimizer.lr=inf": "optimizer.lr must be text, true, false, a finite number",
    "optimizer.lr=nan": "optimizer.lr must be",
    "optimizer.lr='fast'": "lr must be",
    "optimizer.rate=1": "unknown ['rate']",
    "schedule={type='Cosine'}": "unknown type 'Cosine'; known are",
    "schedule={type='StepDecay'}": "missing ['step_size']",
    "schedule={type='OneCycle', lr=0.1}": "lr stands in [optimizer] too",
    "schedule={type='LinearWarmup'}": "missing ['schedule', 'steps']",
    "schedule={type='LinearWarmup', steps=3, schedule=3}": "expected a table with",
    "schedule="
    + "{type='LinearWarmup', steps=1, schedule=" * 300
    + "1"
    + "}" * 300: "",
    "schedule=3": "schedule must be a table",
    "training.epoch=3": "unknown key 'epoch'; known are epochs, batch_size",
    "training.epochs=0": "epochs must be an integer >= 1",
    "training.epochs=1.5": "epochs must be an integer >= 1",
    "training.epochs=99999999999999999999": "integer of 64 bits",
    "training.epochs=2026-01-01": "training.epochs must be",
    "training.batch_size=true": "batch_size must be an integer >= 1",
    "training.seed=-1": "seed must be an integer >= 0",
    "training.seed='x'": "seed must be an integer >= 0",
    "training.backend='cuda'": "unknown back end 'cuda'; this release has numpy",
    "training.backend=[]": "unknown back end []",
    "training.precision='half'": "precision must be one of float32, float64, bfloat16",
    "training.precision=16": "precision must be one of float32",
    "training.device=3": "device must be text, got 3",
    "training.device='cuda'": "numpy: expected the device 'cpu', got 'cuda'",
    "training.penalty={type='L2', rate=1.0, where=3}": "where of L2 must be",
    "training.early_stopping={metric=3}": "metric of EarlyStopping must be of type str",
    "loss.ignore_index=[1]": "ignore_index of CrossEntropy must be of type int",
    "training.transforms={}": "transforms must be a list of tables",
    "training.transforms=[3]": "training.transforms.0: expected a table with a type",
    "training.transforms=[{type='Clip'}]": "unknown type 'Clip'; known are",
    "training.penalty={type='L2'}": "missing ['rate']",
    "training.penalty={type='L2', rate=1.0, where='z*'}": "selects none of",
    "training.early_stopping={patience=2}": "no metric 'val_loss', there will be loss,",
    "training.early_stopping={metric='loss', patience=0}": "patience must be",
    "training.epochs.x=3": "is looked up in no table",
}


@pytest.mark.parametrize("change", WRONG)
def test_a_mistake_in_a_recipe_is_named_and_leaves_nothing_behind(
    change, two_moons, tmp_path, in_process
):
    out = tmp_path / "run"
    message = in_process(
        "train", two_moons / "csv.toml", "--set", change, "--out", out, code=2
    )
    assert WRONG[change] in message
    assert not out.exists()


NO_CHANGE = {
    "epochs": "expected key=value",
    "=3": "expected key=value",
    "a..b=3": "expected key=value",
    "optimizer.type=SGD": """--set 'optimizer.type="SGD"'""",
    "training.epochs=": "is not TOML",
    "training.epochs=3\n[x]": "is not TOML",
    "training.epochs=" + "[" * 10_000: "is not TOML",
}


@pytest.mark.parametrize("change", NO_CHANGE)
def test_a_change_that_is_none_is_refused(change, in_process):
    assert NO_CHANGE[change] in in_process("train", "digits", "--set", change, code=2)


NO_RECIPE = {
    "binary": b"\xff\xfe\x00",
    "no TOML": b"[data",
    "twice": b"[data]\n[data]\n",
    "deep": b"x = " + b"[" * 50_000,
    "huge": b"#" * (2**20 + 1),
    "no sections": b"x = 1",
    "empty": b"",
    "only data": b"[data]\nsource = 'digits'",
}


@pytest.mark.parametrize("case", NO_RECIPE)
def test_a_file_that_is_no_recipe_is_refused(case, tmp_path, in_process):
    path = tmp_path / "x.toml"
    path.write_bytes(NO_RECIPE[case])
    assert in_process("train", path, "--out", tmp_path / "run", code=2)
    assert not (tmp_path / "run").exists()


def test_what_is_no_file_is_refused(tmp_path, in_process):
    import os

    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    for name in ("pipe", "folder", "none"):
        assert in_process("train", tmp_path / f"{name}.toml", code=2)
    known = f"known are {', '.join(RECIPES)}; for a"
    assert known in in_process("train", "mnits", code=2)
    assert "name a recipe" in in_process("train", code=2)
    assert "leave --data and folder" in in_process(
        "train", "digits", "--data", tmp_path, code=2
    )


def test_classes_of_the_test_file_must_be_known(two_moons, tmp_path, in_process):
    rows = (two_moons / "test.csv").read_text().replace("malware", "ransomware")
    (two_moons / "odd.csv").write_text(rows)
    message = in_process(
        "train", two_moons / "csv.toml", "--set", "data.test_path='odd.csv'", code=2
    )
    assert "['ransomware']" in message


def test_a_recipe_that_is_written_is_read_again():
    odd = {"a b": 'q"\\\n\x7f\u2028🔥', "n": [1e-5, 2.0, -3, True], "e": [], "f": {}}
    whole = {"data": odd, "model": {"layers": [{"type": "X", "in": [{"y": 1}]}, {}]}}
    assert tomllib.loads(written(whole | {"detector": {}})) == whole
