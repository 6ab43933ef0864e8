"""`sillar report`: the page, read by a real browser."""

import json
import os
import re
import shutil
from importlib.util import find_spec

import numpy as np
import pytest
from command_line import DIGITS, as_json, recipe, sillar

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDS = ("jinja2", "matplotlib", "playwright")
lacking = CHROMIUM is None or any(find_spec(name) is None for name in NEEDS)
pytestmark = pytest.mark.skipif(
    lacking and "CI" not in os.environ,
    reason="needs Jinja2, matplotlib, Playwright and the program chromium",
)
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET])
        yield opened
        opened.close()


@pytest.fixture
def read(browser):
    """Return a function that opens a page; at the end it must have had no errors."""
    opened, errors = [], []

    def read(path, width=1200):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda r: errors.append(r.url) if "http" in r.url else None)
        page.goto(path.as_uri())
        opened.append(page)
        return page

    yield read
    for page in opened:
        page.close()
    assert errors == []


@pytest.fixture(scope="module")
def rare_run(tmp_path_factory):
    """Return a run on a problem with 3 % alarms, and a validation part."""
    folder = tmp_path_factory.mktemp("rare")
    rng = np.random.default_rng(0)
    label = (np.arange(1500) % 33 == 0).astype(int)
    x = rng.normal(0, 1, (1500, 2)) + 2.2 * label[:, None]
    words = np.array(["benign", "<script>alert(1)</script>"])[label]
    rows = [f"{a:.5f},{b:.5f},{w}" for (a, b), w in zip(x, words, strict=True)]
    (folder / "rare.csv").write_text("\n".join(["u,v,kind", *rows]) + "\n")
    data = ('source = "csv"', 'path = "rare.csv"', "validation = 0.3")
    (folder / "rare.toml").write_text(recipe(*data))
    run = folder / "run"
    sillar("train", folder / "rare.toml", "--epochs", 8, "--out", run)
    return run


def test_a_page_with_all_sections_opens_and_its_links_lead_somewhere(digits_run, read):
    found = as_json("report", digits_run)
    page = read(digits_run / "report.html")
    assert found["file"] == str(digits_run / "report.html")
    titles = page.locator("h2").all_inner_texts()
    assert titles == [
        *("Data and splits", "Training", "Metrics", "Baselines", "Worst mistakes"),
        *("Environment", "How to reproduce"),
    ]
    targets = page.eval_on_selector_all("nav a", "all => all.map(a => a.hash)")
    assert len(targets) == len(titles)
    assert all(page.locator(target).count() == 1 for target in targets)
    assert page.locator("svg[role=img]").count() == 6
    ids = page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))
    record = json.loads((digits_run / "run.json").read_text())
    shown = page.locator("table").filter(has_text="metric").first.inner_text()
    assert f"{record['metrics']['accuracy']:.4f}" in shown
    body = page.inner_text("body")
    for said in ("logistic regression", "majority", "OpenBLAS".lower(), "sillar train"):
        assert said in body
    assert page.locator("td img").first.evaluate("i => i.naturalWidth") == 8


def test_every_curve_has_a_band(digits_run, tmp_path):
    """Seven classes are drawn, a curve against the rest with its interval each."""
    sillar("report", digits_run, "--out", tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    for name in ("roc-curve", "precision-recall-curve"):
        bands = re.findall(rf'<g id="{name}-FillBetween\w*_\d+">', html)
        assert len(bands) == 7, name


def test_tables_are_sorted_by_a_click(digits_run, read, tmp_path):
    sillar("report", digits_run, "--out", tmp_path / "page.html")
    page = read(tmp_path / "page.html")
    table = page.locator("table").filter(has_text="support")
    column = table.locator("tbody tr td:nth-child(4)")
    head = table.locator("th:nth-child(4) button")
    for direction in (1, -1):
        head.click()
        values = [float(text) for text in column.all_inner_texts()]
        assert values == sorted(values)[::direction]


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_it_fits_the_width(digits_run, read, tmp_path, width):
    sillar("report", digits_run, "--out", tmp_path / "page.html")
    page = read(tmp_path / "page.html", width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_rare_class_a_threshold_and_names_that_are_not_trusted(rare_run, read):
    sillar("report", rare_run, "--cost", "20:1")
    html = (rare_run / "report.html").read_text()
    assert "<script>alert" not in html
    page = read(rare_run / "report.html")
    body = page.inner_text("body")
    assert "<script>alert(1)</script>" in body
    assert "accuracy says little" in body
    assert page.locator(".lead div").first.inner_text().startswith("average precision")
    assert "a miss at 20 and a false alarm at 1" in body
    chosen = page.locator("#threshold table")
    recall = chosen.locator("tbody tr:nth-child(1) td:nth-child(2)").inner_text()
    assert float(recall) > 0.9


def test_the_threshold_keeps_what_was_promised_on_the_validation_part(rare_run, read):
    sillar("report", rare_run, "--recall", "1.0")
    page = read(rare_run / "report.html")
    row = page.locator("#threshold tbody tr:nth-child(1)").inner_text().split()
    assert row[:2] == ["validation", "1.0000"]
    rows = page.locator("#data-and-splits tbody tr:nth-child(2)").first.inner_text()
    assert rows.split()[:2] == ["validation", "360"]
    assert "chosen on the 360 rows of the validation" in page.inner_text("#threshold")


def test_values_have_a_page_too(two_moons, tmp_path, read):
    data = ('source = "npz"', f'path = "{two_moons / "all.npz"}"', 'y = "z"')
    text = recipe(*data, target="", outputs=1, loss="MSE")
    (tmp_path / "values.toml").write_text(text)
    sillar("train", tmp_path / "values.toml", "--epochs", 2, "--out", tmp_path / "run")
    sillar("report", tmp_path / "run")
    page = read(tmp_path / "run" / "report.html")
    assert "r2" in page.inner_text("#metrics")
    rows = page.locator("#metrics table tbody tr").all_inner_texts()
    bounds = {row.split()[0]: row.split()[1:] for row in rows}
    for name in ("mse", "mae", "r2"):
        value, low, high = map(float, bounds[name])
        assert low < value < high
    assert page.locator("#metrics svg").count() == 1


def test_the_recipe_on_the_page_gives_the_same_model(two_moons, tmp_path, read):
    data = (f'path = "{two_moons / "all.npz"}"', "validation = 0.1")
    more = 'transforms = [{ type = "ClipNorm", max_norm = 1e-5 }]\nseed = 3'
    text = recipe('source = "npz"', *data, target="", more=more)
    (tmp_path / "moons.toml").write_text(text)
    changes = ("--set", "optimizer.lr=0.02", "--epochs", 2)
    sillar("train", tmp_path / "moons.toml", *changes, "--out", tmp_path / "run")
    sillar("report", tmp_path / "run")
    page = read(tmp_path / "run" / "report.html")
    commands, toml = page.locator("#how-to-reproduce pre").all_inner_texts()
    (tmp_path / "moons-again.toml").write_text(toml)
    train, compare = commands.splitlines()
    sillar(*train.split()[1:], cwd=tmp_path)
    files = [tmp_path / path for path in compare.split()[1:]]
    assert files[0] != files[1]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_equal_runs_have_equal_pages(digits_run, tmp_path):
    for name in ("one.html", "two.html"):
        sillar("report", digits_run, "--out", tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_pictures_take_the_colour_of_the_page(digits_run, tmp_path):
    sillar("report", digits_run, "--out", tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert "currentColor" in html
    assert "#0a0b0c" not in html
    assert not re.search(r"fill: ?#000000", html)


def test_mistakes_are_told(digits_run, tmp_path, in_process):
    assert "holds no run" in in_process("report", tmp_path, code=2)
    wrong = in_process("report", digits_run, "--cost", "much", code=2)
    assert "MISS:ALARM" in wrong
    page = tmp_path / "nowhere" / "page.html"
    said = in_process("report", digits_run, "--out", page, code=2)
    assert f"{str(page)!r}: No such file or directory" in said


def test_words_of_any_script_stand_in_pictures(tmp_path):
    rows = [f"{i},{i * i % 7},{'攻撃' if i % 3 else 'обычно'}" for i in range(60)]
    (tmp_path / "x.csv").write_text("\n".join(["größe,b,τύπος", *rows]) + "\n")
    given = ("--data", tmp_path / "x.csv", "--target", "τύπος", "--epochs", 1)
    sillar("train", "table", *given, "--out", tmp_path / "run")
    assert "Glyph" not in sillar("report", tmp_path / "run").stderr
    assert "攻撃</text>" in (tmp_path / "run" / "report.html").read_text()


def test_a_class_name_changes_nothing_but_the_name(rare_run):
    sillar("report", rare_run)
    assert "&lt;script&gt;" in (rare_run / "report.html").read_text()


def test_runs_are_compared_on_a_page_and_on_the_terminal(digits_run, tmp_path, read):
    other = tmp_path / "slower"
    sillar("train", *DIGITS, "--set", "optimizer.lr=0.0003", "--out", other)
    path = tmp_path / "compare.html"
    out = sillar("compare", digits_run, other, "--out", path).stdout
    assert "accuracy -" in out
    assert "may be chance" not in out
    assert max(map(len, out.splitlines())) <= 80 or str(path) in out
    found = as_json("compare", digits_run, other, "--out", path)
    (gap,) = found["differences"]
    values = [found["metrics"][name]["accuracy"] for name in ("slower", "digits")]
    assert gap["value"] == pytest.approx(values[0] - values[1])
    assert gap["low"] < gap["value"] < gap["high"] < 0
    page = read(path)
    assert page.locator("h2").all_inner_texts() == [
        *("Metrics", "Training", "What differs"),
    ]
    settings = page.inner_text("#what-differs")
    assert "optimizer.lr" in settings
    assert "training.seed" not in settings
    assert "0.0003" in settings
    assert read(path, 390).evaluate("document.documentElement.scrollWidth") <= 390


def test_what_cannot_be_compared_says_so(digits_run, moons_run, tmp_path, in_process):
    path = tmp_path / "compare.html"
    in_process("compare", digits_run, moons_run, "--out", path)
    assert "Not tested on the same labelled rows as" in path.read_text()
    assert "two runs or more" in in_process("compare", digits_run, code=2)
    assert "one of them twice" in in_process("compare", digits_run, digits_run, code=2)


def test_runs_of_values_and_of_rare_classes_are_compared(rare_run, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (300, 2))
    rows = [f"{a:.4f},{b:.4f},{a - b:.4f}" for a, b in x]
    (tmp_path / "x.csv").write_text("\n".join(["a,b,c", *rows]) + "\n")
    given = ("train", "regression", "--data", tmp_path / "x.csv", "--target", "c")
    for seed in (0, 1):  # which rows are validated on, and so the scales, differ
        sillar(
            *given, "--epochs", seed + 1, "--seed", seed, "--out", tmp_path / f"{seed}"
        )
    page = tmp_path / "c.html"
    runs = tmp_path / "0", tmp_path / "1"
    (gap,) = as_json("compare", *runs, "--out", page)["differences"]
    assert gap["metric"] == "mse"
    assert gap["low"] < gap["value"] < gap["high"] < 0
    other = tmp_path / "other"
    toml = rare_run.parent / "rare.toml"
    sillar("train", toml, "--epochs", 1, "--out", other)
    found = as_json("compare", rare_run, other, runs[0], "--out", page)
    assert [gap["metric"] for gap in found["differences"]] == ["pr_auc", "accuracy"]
    assert "cannot be compared row by row: 0." in page.read_text()
