"""From a CSV of words and numbers to a model that takes raw rows."""

import json
import re

import numpy as np
import pytest
from command_line import as_json, sillar

from sillar.cli.tables import Table


@pytest.fixture(scope="module")
def flows(tmp_path_factory):
    """Return a CSV file of flows, some cells missing."""
    folder = tmp_path_factory.mktemp("flows")
    rng = np.random.default_rng(0)
    scan = rng.random(600) < 0.3
    size = np.where(scan, rng.exponential(40, 600), rng.exponential(900, 600))
    proto = np.where(rng.random(600) < 0.8, np.where(scan, "udp", "tcp"), "icmp")
    rows = [
        f"{'' if i % 17 == 0 else f'{s:.1f}'},{p},{'scan' if k else 'benign'}"
        for i, (s, p, k) in enumerate(zip(size, proto, scan, strict=True))
    ]
    (folder / "flows.csv").write_text("\n".join(["bytes,proto,kind", *rows]) + "\n")
    return folder / "flows.csv"


@pytest.fixture(scope="module")
def run(flows):
    """Return a run on the flows."""
    directory = flows.parent / "run"
    sillar(
        *("train", "table", "--data", flows, "--target", "kind"),
        *("--set", 'data.log=["bytes"]', "--out", directory),
    )
    return directory


def test_three_commands(flows, run, tmp_path):
    metrics = as_json("evaluate", run)["metrics"]
    assert metrics["accuracy"] > 0.85
    record = json.loads((run / "run.json").read_text())
    assert metrics["accuracy"] == record["metrics"]["accuracy"]
    (tmp_path / "new.csv").write_text(
        "proto,bytes,user\nudp,12,a\ntcp,2500,b\ngre,,c\n"
    )
    found = as_json("predict", run, tmp_path / "new.csv")["predictions"]
    assert [row["class"] for row in found[:2]] == ["scan", "benign"]
    assert len(found) == 3


def test_nothing_is_learned_of_the_test_part(flows, run, tmp_path):
    """A canary among the rows to test on leaves the weights the same, to the bit."""
    lines = flows.read_text().splitlines()
    changed = tmp_path / "flows.csv"
    head, rows = lines[0], lines[1:]
    poisoned = [
        row.replace(",tcp,", ",canary,").replace(",udp,", ",canary,") for row in rows
    ]
    changed.write_text("\n".join([head, *rows]) + "\n")
    (tmp_path / "test.csv").write_text("\n".join([head, *poisoned]) + "\n")
    models = []
    for test in ("flows.csv", "test.csv"):
        out = tmp_path / test.partition(".")[0]
        sillar(
            *("train", "table", "--data", tmp_path, "--target", "kind"),
            *("--set", 'data.path="flows.csv"', "--set", f'data.test_path="{test}"'),
            *("--epochs", 2, "--out", out),
        )
        models.append((out / "model.safetensors").read_bytes())
    assert models[0] == models[1]
    assert b"canary" not in models[0]


def test_nothing_is_learned_of_rows_of_the_same_file_that_are_tested_on(tmp_path):
    """A canary and a number without measure in them leave the weights the same."""
    attacks(tmp_path / "x.csv", 0.3)
    whole = Table(target="kind", folder=str(tmp_path / "x.csv"))
    whole.parts(0)
    head, *lines = (tmp_path / "x.csv").read_text().splitlines()
    words = [f"tcp,{line}" for line in lines]
    (tmp_path / "x.csv").write_text("\n".join([f"proto,{head}", *words]) + "\n")
    for row in whole.tested["rows"]:
        words[row] = f"canary,1e9,{lines[row].split(',')[1]}"
    (tmp_path / "y.csv").write_text("\n".join([f"proto,{head}", *words]) + "\n")
    models = []
    for name in ("x", "y"):
        given = ("--data", tmp_path / f"{name}.csv", "--target", "kind", "--epochs", 2)
        sillar("train", "table", *given, "--out", tmp_path / name)
        models.append((tmp_path / name / "model.safetensors").read_bytes())
    assert models[0] == models[1]
    assert b"canary" not in models[1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--target", "kind"), "name it with --data FILE"),
        (("--data", "FLOWS"), "name the column of answers with --target"),
        (("--data", "FLOWS", "--target", "label"), "no column 'label'"),
    ],
)
def test_mistakes_are_told(flows, in_process, options, text):
    given = [flows if option == "FLOWS" else option for option in options]
    assert text in in_process("train", "table", *given, code=2)


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (["x"] * 9, "expected two classes or more to learn, got only 'x'"),
        (["x", "y", ""] * 9, "row 2: expected an answer, got an empty cell, as in 9"),
        ([str(i) for i in range(30)], "30 different answers in 30 rows: expected"),
    ],
)
def test_answers_that_teach_nothing_are_told(answers, text, tmp_path, in_process):
    rows = [f"{i},{answer}" for i, answer in enumerate(answers)]
    (tmp_path / "x.csv").write_text("\n".join(["a,b", *rows]) + "\n")
    given = ("--data", tmp_path / "x.csv", "--target", "b")
    said = in_process("train", "table", *given, code=2)
    assert text in " ".join(said.split())


def test_a_report_shows_rows_as_they_are_in_the_file(flows, run):
    sillar("report", run, "--out", run / "page.html")
    page = (run / "page.html").read_text()
    shown = re.findall(r"bytes (\S*), proto (\w+) \(row (\d+) of the file\)", page)
    rows = flows.read_text().splitlines()[1:]
    assert shown
    assert all(rows[int(n)].startswith(f"{size},{word},") for size, word, n in shown)
    assert re.search(r"(proto=\w+|bytes)( is missing)? &lt;= ", page)  # the one rule


def test_names_of_columns_may_be_numbers(tmp_path, in_process):
    rows = [f"{i},{i * i % 7},{'xy'[i % 2]}" for i in range(40)]
    (tmp_path / "x.csv").write_text("\n".join(["2019,2020,kind", *rows]) + "\n")
    given = ("train", "table", "--data", tmp_path / "x.csv", "--target", "kind")
    assert "data.header" in in_process(*given, code=2)
    out = tmp_path / "run"
    in_process(*given, "--set", "data.header=true", "--epochs", 1, "--out", out)
    assert (out / "model.safetensors").exists()


def attacks(path, share, rows=400):
    """Write a table in which a share of the rows are attacks."""
    bad = np.arange(rows) < share * rows
    x = np.random.default_rng(0).normal(4.0 * bad, 1)
    lines = [
        f"{v:.4f},{'attack' if b else 'usual'}" for v, b in zip(x, bad, strict=True)
    ]
    path.write_text("\n".join(["size,kind", *lines]) + "\n")


@pytest.mark.parametrize("source", ["table", "csv"])
def test_alarms_are_of_the_rare_class(source, tmp_path):
    attacks(tmp_path / "x.csv", 0.05)
    data = ("--data", tmp_path, "--set", 'data.path="x.csv"', "--target", "kind")
    if source == "csv":
        data = (*data, "--set", 'data.source="csv"')
    run = tmp_path / "run"
    found = as_json("train", "table", *data, "--epochs", 3, "--out", run)["metrics"]
    assert [row["class"] for row in found["per_class"]] == ["usual", "attack"]
    sillar("report", run)
    assert "the class &#39;attack&#39;" in (run / "report.html").read_text()


def test_other_data_is_numbered_and_scaled_alike(tmp_path):
    """Classes keep their order, and columns what was learned where it was trained."""
    attacks(tmp_path / "x.csv", 0.1)
    attacks(tmp_path / "other.csv", 0.9)
    given = (
        "--data",
        tmp_path / "x.csv",
        "--target",
        "kind",
        "--out",
        tmp_path / "run",
    )
    sillar("train", "table", *given)
    other = as_json("evaluate", tmp_path / "run", "--data", tmp_path / "other.csv")
    assert other["metrics"]["accuracy"] > 0.8
    sillar("report", tmp_path / "run", "--data", tmp_path / "other.csv")
    page = (tmp_path / "run" / "report.html").read_text()
    assert f">{other['metrics']['accuracy']:.4f}<" in page


@pytest.fixture
def rare(tmp_path):
    """Return a folder with a table of rare attacks, and a run on it."""
    (tmp_path / "first").mkdir()
    attacks(tmp_path / "first" / "x.csv", 0.1)
    given = ("--data", tmp_path / "first" / "x.csv", "--target", "kind", "--epochs", 3)
    sillar("train", "table", *given, "--out", tmp_path / "run")
    return tmp_path


def support(metrics):
    return [row["support"] for row in metrics["per_class"]]


def test_all_of_another_file_is_tested_on(rare):
    """Baselines are still of the rows the run was trained on."""
    attacks(rare / "other.csv", 0.3, 200)
    found = as_json("evaluate", rare / "run", "--data", rare / "other.csv")["metrics"]
    assert support(found) == [140, 60]
    majority = next(b for b in found["baselines"] if b["model"] == "majority")
    assert majority["accuracy"] == 0.7  # "usual", as where it was trained
    attacks(rare / "few.csv", 0.5, 2)
    two = as_json("evaluate", rare / "run", "--data", rare / "few.csv")["metrics"]
    assert support(two) == [1, 1]
    sillar("report", rare / "run", "--data", rare / "other.csv")
    page = (rare / "run" / "report.html").read_text()
    assert f">{found['accuracy']:.4f}<" in page
    assert re.search(r"<td[^>]*>test</td><td[^>]*>200</td>", page)
    assert "chosen on the 64 rows of the validation" in page


def test_the_same_file_elsewhere_is_not_another(rare):
    """What was trained on there is not tested on."""
    (rare / "first").rename(rare / "moved")
    again = as_json("evaluate", rare / "run", "--data", rare / "moved" / "x.csv")
    record = json.loads((rare / "run" / "run.json").read_text())
    assert again["metrics"]["loss"] == record["metrics"]["loss"]
    assert sum(support(again["metrics"])) == 80


def test_another_file_is_enough_where_the_first_is_gone(rare):
    (rare / "first" / "x.csv").unlink()
    attacks(rare / "other.csv", 0.3, 200)
    found = as_json("evaluate", rare / "run", "--data", rare / "other.csv")["metrics"]
    assert support(found) == [140, 60]
    assert "baselines" not in found
    sillar("report", rare / "run", "--data", rare / "other.csv")
    assert "Not fitted" in (rare / "run" / "report.html").read_text()


def test_other_words_are_refused_by_a_model_of_text(tmp_path, in_process):
    (tmp_path / "a.txt").write_text("to be or not to be. " * 200)
    (tmp_path / "b.txt").write_text("que sera, sera. " * 200)
    run = tmp_path / "run"
    in_process(
        *("train", "text", "--data", tmp_path / "a.txt", "--epochs", 1, "--out", run),
        *("--set", "data.context=8", "--set", "data.windows=64"),
    )
    said = in_process("evaluate", run, "--data", tmp_path / "b.txt", code=2)
    assert "of the model in that order" in said


def test_the_order_of_classes_can_be_given(tmp_path):
    attacks(tmp_path / "x.csv", 0.05)
    given = (
        "--data",
        tmp_path / "x.csv",
        "--target",
        "kind",
        "--out",
        tmp_path / "run",
    )
    order = ("--set", 'data.classes=["attack", "usual"]')
    found = as_json("train", "table", *given, *order, "--epochs", 1)["metrics"]
    assert [row["class"] for row in found["per_class"]] == ["attack", "usual"]
    sillar("report", tmp_path / "run")
    assert "name it last in data.classes" in (tmp_path / "run/report.html").read_text()


def test_track_writes_for_other_tools(flows, tmp_path):
    out = tmp_path / "run"
    common = ("train", "table", "--data", flows, "--target", "kind", "--epochs", 2)
    sillar(*common, "--track", "--out", out)
    assert len((out / "metrics.csv").read_text().splitlines()) == 3
    assert len(list((out / "events").glob("events.out.tfevents.*"))) == 1


def test_track_is_true_or_false(flows, in_process):
    given = ("--data", flows, "--target", "kind", "--set", "training.track=3")
    assert "true or false" in in_process("train", "table", *given, code=2)


def houses(folder, rows=600):
    """Write a CSV file of prices in their own units; return its path."""
    rng = np.random.default_rng(0)
    area, town = (
        rng.uniform(30, 200, rows),
        rng.choice(["Lima", "Cusco", "Tacna"], rows),
    )
    factor = np.select([town == "Lima", town == "Cusco"], [3000, 2000], 1000)
    price = 50_000 + area * factor * rng.normal(1, 0.03, rows)
    lines = [f"{a:.1f},{t},{p:.0f}" for a, t, p in zip(area, town, price, strict=True)]
    path = folder / "houses.csv"
    path.write_text("\n".join(["area,town,price", *lines]) + "\n")
    return path


def test_a_value_is_learned_in_its_own_units(tmp_path):
    path = houses(tmp_path)
    given = ("--data", path, "--target", "price", "--out", tmp_path / "run")
    found = as_json("train", "regression", *given)["metrics"]
    assert found["r2"] > 0.97
    assert 1e3 < found["mae"] < 3e4
    names = {row["model"]: row["r2"] for row in found["baselines"]}
    assert names["mean"] < 0.05 < names["linear regression"] < found["r2"]
    (tmp_path / "new.csv").write_text("area,town\n100,Lima\n100,Tacna\n")
    rows = as_json("predict", tmp_path / "run", tmp_path / "new.csv")["predictions"]
    prices = [row["outputs"][0] for row in rows]
    assert prices == pytest.approx([350_000, 150_000], rel=0.1)
    sillar("report", tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "linear regression" in page


def test_codes_go_to_vectors_in_a_recipe(tmp_path):
    path = houses(tmp_path)
    first = '{type="CodedDense", n_in="inputs", n_out=32, sizes="codes"}'
    rest = (
        '{type="ReLU"}, {type="Dense", n_in=32, n_out=1},'
        ' {type="Rescaling", scale="scale", offset="offset"}'
    )
    given = ("--data", path, "--target", "price", "--out", tmp_path / "run")
    changes = (
        "--set",
        'data.codes=["town"]',
        "--set",
        f"model.layers=[{first}, {rest}]",
    )
    found = as_json("train", "regression", *given, *changes)["metrics"]
    assert found["r2"] > 0.95
    (tmp_path / "new.csv").write_text("town,area\nLima,100\nArequipa,100\n")
    rows = as_json("predict", tmp_path / "run", tmp_path / "new.csv")["predictions"]
    assert len(rows) == 2


def test_an_answer_that_is_no_number_is_told(tmp_path, in_process):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,many\n")
    given = ("--data", tmp_path / "x.csv", "--target", "b")
    text = in_process("train", "regression", *given, code=2)
    assert "row 1: expected a number to learn, got 'many'" in text


def test_a_file_as_people_have_them_leads_to_a_report_in_three_commands(tmp_path):
    """A mark of byte order, quotes, missing cells, an identifier, a rare class."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(600):
        bad = i % 25 == 0
        size = "" if i % 19 == 0 else f"{rng.exponential(4000 if bad else 600):.0f}"
        proto = rng.choice(["udp", "gre"] if bad else ["tcp", "udp"])
        said = rng.choice(['"hello, world"', '"he said ""no"""', "", "x"])
        rows.append(f"r{i},{proto},{size},{said},{'scan' if bad else 'usual'}")
    text = "\r\n".join(["id,proto,bytes,comment,kind", *rows]) + "\r\n"
    (tmp_path / "flows.csv").write_bytes(text.encode("utf-8-sig"))
    run = tmp_path / "run"
    given = ("--data", tmp_path / "flows.csv", "--target", "kind", "--out", run)
    done = sillar("train", "table", *given)
    assert "'id' has 384 different values in 384 rows: is it an identifier?" in (
        " ".join(done.stderr.split())
    )
    sillar("report", run)
    page = (run / "report.html").read_text()
    assert "logistic regression" in page
    assert "<svg" in page
    (tmp_path / "new.csv").write_text(
        "bytes,proto,comment,id\n9000,gre,,q1\n,tcp,x,q2\n"
    )
    found = as_json("predict", run, tmp_path / "new.csv")["predictions"]
    assert [row["class"] for row in found] == ["scan", "usual"]
