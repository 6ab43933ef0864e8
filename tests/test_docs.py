"""What the pages say is true: code runs, prints what is shown, and links lead on."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from sillar.cli import main
from sillar.core import tape

ROOT = Path(__file__).parent.parent
FOLDERS = ("docs", "examples", "benchmarks", "sillar", "tests")
PAGES = sorted(
    [*ROOT.glob("*.md"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*.md"))]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`")
COMMAND_LINE = ROOT / "docs" / "guide" / "command-line.md"


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def without_code(page):
    return FENCE.sub("", page.read_text())


def blocks(text):
    """Yield (line before, language, code, output or None) for each block of code.

    Its output is a ```text block right after it, with one blank line between them.
    """
    for fence, after in pairwise([*FENCE.finditer(text), None]):
        shown = None
        if after and after[1] == "text" and text[fence.end() : after.start()] == "\n":
            shown = after[2]
        yield text[: fence.start(2)].count("\n"), fence[1], fence[2], shown


def run_commands(code, shown):
    """Run the lines that begin with sillar; they fail only where an error is shown."""
    for line in code.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "sillar"
        fails = shown is not None and shown.startswith("error: ")
        assert main(arguments) == (2 if fails else 0), line


def run(page, line, language, code, shown, scope):
    if language == "python":
        exec(compile("\n" * line + code, page, "exec"), scope)
    elif page == COMMAND_LINE and language == "sh":
        run_commands(code, shown)
    elif page == COMMAND_LINE and language == "toml":  # begins with its file's name
        Path(code.split()[1]).write_text(code)


OURS = [p for p in PAGES if name_of(p).startswith(("README", "CONTRIBUTING", "docs/"))]


@pytest.mark.parametrize("page", OURS, ids=name_of)
def test_code_runs_and_prints_what_is_shown(page, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tape, "_PRIMITIVES", list(tape.all_primitives()))
    scope = {"__name__": "page"}
    for line, language, code, shown in blocks(page.read_text()):
        run(page, line, language, code, shown, scope)
        printed = "".join(capfd.readouterr()[: 2 if language == "sh" else 1])
        assert shown in (None, printed)


def test_output_is_compared():
    page = "```python\nprint(1)\n```\n\n```text\n1\n```\n\n```toml\nx = 1\n```\n"
    found = [(1, "python", "print(1)\n", "1\n"), (5, "text", "1\n", None)]
    assert list(blocks(page)) == [*found, (9, "toml", "x = 1\n", None)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in LINK.findall(without_code(page)):
        if not target.startswith(("https://", "http://", "mailto:")):
            path, _, heading = target.partition("#")
            other = page.parent / path if path else page
            assert other.exists(), target
            assert not heading or heading in headings(other), target


def headings(page):
    """Return the anchors that the headings of a page have."""
    titles = re.findall(r"^#+ (.*)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_files_exist(page):
    missing = [n for n in PATH.findall(without_code(page)) if not (ROOT / n).exists()]
    assert missing == []


def test_the_tables_of_features_name_a_test_for_each_row():
    text = (ROOT / "README.md").read_text()
    works = text.partition("\n## What works\n")[2].partition("\n## ")[0]
    found = tables(works)
    assert len(found) > 3
    assert min(map(len, found)) > 3
    for table in found:
        assert table[0] == "| feature | shown by |"
        assert all("`tests/" in row for row in table[2:])


def test_both_readmes_have_the_same_code_and_tables():
    english, spanish = ROOT / "README.md", ROOT / "README.es.md"
    assert FENCE.findall(english.read_text()) == FENCE.findall(spanish.read_text())
    assert sizes(english) == sizes(spanish)
    assert PATH.findall(english.read_text()) == PATH.findall(spanish.read_text())


def sizes(page):
    return [len(table) for table in tables(page.read_text())]


def tables(text):
    """Return the tables of a text, each a list of its rows."""
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [table.splitlines() for table in found]
