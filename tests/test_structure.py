"""The shape of the code: who imports whom, how long things are, what is public."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sillar"
FILES = sorted(PACKAGE.rglob("*.py"))

# Each line may import the lines above it; packages on one line do not see each other.
LAYERS = (
    ("errors",),
    ("backends",),
    ("core", "describe"),
    ("nn", "optim", "data", "files", "header"),
    ("train", "testing"),
    ("watch", "evidence", "interop", "distributed", "streams"),
    ("detectors",),
    ("cli",),
    ("__main__",),
)
ALLOWED_BESIDE = {
    ("files", "header"),  # one file in two: its reader, its header
    ("distributed", "evidence"),  # the folds of a cross-validation, elsewhere
}
LEVEL = {name: i for i, line in enumerate(LAYERS) for name in line}
CORE_ORDER = (
    *(
        "state",
        "dtypes",
        "tensor",
        "listen",
        "tape",
        "ops",
        "functional",
        "grad",
        "operators",
    ),
    *("parameter", "share", "fused", "normalization", "attention", "trace", "compile"),
)

LINES_PER_FILE = 400
LINES_PER_FUNCTION = 40
LINES_OF_CORE = 2000  # of code: blank lines and docstrings are free


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def imported_modules(path):
    """Yield what a file imports when it runs; imports for type checkers do not."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(module):
    words = module.split(".")
    return words[1] if words[0] == "sillar" and len(words) > 1 else None


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down_only(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return  # the package's own front, which re-exports all
    for module in imported_modules(path):
        other = part_of(module)
        if other is None or other == own or other not in LEVEL:
            continue
        below = LEVEL[other] < LEVEL[own]
        assert below or (own, other) in ALLOWED_BESIDE, f"{own} imports {module}"


def test_every_package_has_a_place_in_the_order():
    found = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in FILES}
    assert found - {"__init__"} == set(LEVEL)


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").rglob("*.py")), ids=name_of)
def test_core_is_ordered_inside(path):
    own = path.relative_to(PACKAGE / "core").parts[0].removesuffix(".py")
    if own not in CORE_ORDER:
        return
    for module in imported_modules(path):
        words = module.split(".")
        inside = words[:2] == ["sillar", "core"] and words[2:3] != [own]
        if inside and words[2:3] and words[2] in CORE_ORDER:
            assert CORE_ORDER.index(words[2]) < CORE_ORDER.index(own), module


LIBRARIES = [
    *("jax", "torch", "threadpoolctl", "typer", "rich", "graphviz"),
    *("cv2", "pyarrow"),
    *("jinja2", "matplotlib", "tensorboardX"),
    *("sklearn", "optuna", "onnx", "onnxruntime"),
    *("dask", "distributed", "mpi4py"),
]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_in_its_own_place_only(library):
    places = {
        "jax": ("backends/jax/",),
        "jinja2": ("evidence/page.py",),
        "matplotlib": ("evidence/figures.py",),
        "tensorboardX": ("train/track.py",),
        "mpi4py": ("distributed/mpi/ranks.py",),
        "dask": ("distributed/dask/cluster.py",),
        "distributed": ("distributed/dask/cluster.py",),
        "sklearn": ("interop/sklearn.py", "interop/forest.py"),
        "optuna": ("interop/optuna.py",),
        "onnx": ("interop/onnx/",),
        "onnxruntime": ("interop/onnx/",),
        "typer": ("cli",),
        "rich": ("cli",),
        "cv2": ("data/images.py",),
        "graphviz": ("watch/draw.py",),
        "pyarrow": ("data/parquet.py",),
        "threadpoolctl": ("cli", "backends/numpy/threads.py"),
    }
    homes = places.get(library, (f"backends/{library}.py",))
    importers = {
        name_of(path)
        for path in FILES
        for module in imported_modules(path)
        if module and module.split(".")[0] == library
    }
    starts = tuple(f"sillar/{home}" for home in homes)
    assert all(f.startswith(starts) for f in importers), importers


def test_nothing_is_executed_but_our_own_plans():
    """No eval or exec of text, and nothing of pickle, but for a compiled step."""
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if named and node.func.id in ("eval", "exec"):
                found.add((name_of(path), node.func.id))
        if {"pickle", "marshal", "shelve"} & set(imported_modules(path)):
            found.add((name_of(path), "pickle"))
    expected = {("sillar/backends/numpy/source.py", "exec")}
    assert expected == found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert text.count("\n") <= LINES_PER_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            length = node.end_lineno - node.lineno + 1 - docstring.count("\n")
            assert length <= LINES_PER_FUNCTION, f"{node.name}: {length} lines"


def test_the_core_can_be_read_in_an_afternoon():
    lines = sum(map(lines_of_code, (PACKAGE / "core").rglob("*.py")))
    assert lines <= LINES_OF_CORE


def lines_of_code(path):
    text = path.read_text()
    lines = {i for i, line in enumerate(text.splitlines(), 1) if line.strip()}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0] if node.body else None
            if ast.get_docstring(node) is not None:
                lines -= set(range(first.lineno, first.end_lineno + 1))
    return len(lines)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_definitions_have_a_docstring_or_inherit_one(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module says what it is"
    for node in tree.body:
        public = isinstance(node, ast.ClassDef | ast.FunctionDef)
        if public and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_public_names_are_exactly_these():
    """To add or remove one, change the file too: names are for ten years."""
    expected = (ROOT / "tests" / "public_names.txt").read_text().split()
    assert expected == public_names()


def public_names():
    """Return the public names of the package and of its public parts, sorted."""
    import sillar.evidence
    import sillar.optim
    import sillar.testing
    import sillar.train
    import sillar.watch

    parts = {
        "": sillar,
        "nn.": sillar.nn,
        "data.": sillar.data,
        "optim.": sillar.optim,
        "train.": sillar.train,
        "testing.": sillar.testing,
        "watch.": sillar.watch,
        "evidence.": sillar.evidence,
    }
    for prefix, module in parts.items():
        assert all(hasattr(module, name) for name in module.__all__), prefix
    return sorted(p + name for p, module in parts.items() for name in module.__all__)


LOADED = """
import sys
import numpy
before = set(sys.modules)
import sillar
third = {m.split(".")[0] for m in set(sys.modules) - before} - sys.stdlib_module_names
print(*sorted(third - {"numpy", "sillar"}))
heavy = {"inspect", "hashlib", "csv", "subprocess", "zipfile", "gzip", "socket"}
print(*sorted(heavy & (set(sys.modules) - before)))
"""


def test_import_loads_numpy_and_light_standard_library_only():
    command = [sys.executable, "-c", LOADED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    third_party, heavy = done.stdout.split("\n")[:2]
    assert third_party == ""
    assert heavy == ""
