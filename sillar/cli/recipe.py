"""Recipes: a training run as plain data, read from TOML and checked.

    [data]       source = "digits", "mnist", "csv" or "npz", and what it takes
    [model]      layers = [{type = "Dense", n_in = 64, n_out = 10}, ...]
    [loss]       type and arguments
    [optimizer]  type and arguments
    [schedule]   optional: type and arguments; its lr defaults to the optimizer's
    [detector]   optional: what is built around the trained model
    [training]   epochs, batch_size, seed, backend, device, precision, workers, track,
                 transforms, penalty, early_stopping, ranks

A table that is optional may be empty, which is the same as none.
"""

from __future__ import annotations

import copy
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sillar.data.source import open_source
from sillar.errors import ConfigError

FOLDER = Path(__file__).with_name("recipes")
LIMIT = 2**20  # bytes
_BARE = re.compile("[A-Za-z0-9_-]+")
SECTIONS = ("data", "model", "loss", "optimizer", "schedule", "training", "detector")
TRAINING: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 32,
    "seed": 0,
    "backend": "numpy",
    "device": "cpu",
    "precision": "float32",
    "workers": 0,
    "track": False,
    "transforms": [],
    "penalty": {},
    "early_stopping": {},
    "ranks": {},
}


def built_in() -> dict[str, Path]:
    """Return the recipes that come with the package, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def read_recipe(recipe: str) -> tuple[str, dict[str, Any]]:
    """Return name and tables of a built-in recipe, or of a file FILE.toml.

    Paths in a file are relative to its folder.
    """
    path = built_in().get(recipe, Path(recipe))
    if path.suffix != ".toml":
        raise ConfigError(
            f"there is no recipe {recipe!r:.80}; known are {', '.join(built_in())}; for"
            " a recipe of your own give a file that ends in .toml"
        )
    with open_source(path, "recipe") as source:
        text = source.read(LIMIT + 1)
    if len(text) > LIMIT:
        raise ConfigError(f"recipe {str(path)!r}: more than {LIMIT} bytes")
    try:
        tables = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"recipe {str(path)!r} is not TOML: {error}") from None
    data = tables.get("data")
    if recipe not in built_in() and isinstance(data, dict):
        folder = data.get("folder", "")
        if data.get("source") != "digits" and isinstance(folder, str):
            data["folder"] = str(path.parent / folder)
    return path.stem, tables


def parse_change(text: str) -> tuple[str, Any]:
    """Return key and value of `key=value`, the value being TOML."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise ConfigError(
            f"--set {text!r:.80}: expected key=value, as in training.epochs=3"
        )
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        parsed = {}
    if set(parsed) != {"value"}:
        raise ConfigError(
            f"--set {key}: the value {value!r:.60} is not TOML; text needs quotes,"
            f""" as in --set '{key}="{value if value.isalnum() else "text"}"'"""
        )
    return key, parsed["value"]


def changed(recipe: dict[str, Any], changes: Iterable[tuple[str, Any]]) -> Any:
    """Return the recipe with other values at dotted keys, as model.layers.0.c_out."""
    recipe = copy.deepcopy(recipe)
    for key, value in changes:
        *outer, last = key.split(".")
        table: Any = recipe
        for name in outer:
            if isinstance(table, dict):
                table = table.setdefault(name, {})
            else:
                table = table[_index(key, table, name)]
        if isinstance(table, dict):
            table[last] = value
        else:
            table[_index(key, table, last)] = value
    return recipe


def _index(key: str, table: Any, name: str) -> int:
    """Return the place in a list that one part of a key names."""
    length = len(table) if isinstance(table, list) else 0
    if not name.isdecimal() or int(name) >= length:
        kind = f"a list of {length}, counted from 0" if length else "no table"
        raise ConfigError(f"--set {key}: {name!r:.40} is looked up in {kind}")
    return int(name)


def checked(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe with all sections and the defaults of [training]."""
    only_known("recipe", recipe, SECTIONS)
    for name, table in recipe.items():
        if not isinstance(table, dict):
            raise ConfigError(f"recipe: {name} must be a table, got {table!r:.60}")
    missing = [name for name in SECTIONS[:4] if not recipe.get(name)]
    if missing:
        raise ConfigError(f"recipe: [{missing[0]}] is missing or empty")
    given = recipe.get("training", {})
    only_known("training", given, TRAINING)
    whole = {name: recipe.get(name, {}) for name in SECTIONS}
    whole["training"] = {**TRAINING, **given}
    for name in ("transforms", "penalty", "early_stopping"):
        value, default = whole["training"][name], TRAINING[name]
        if not isinstance(value, type(default)):
            expected = "a list of tables" if default == [] else "a table"
            raise ConfigError(f"training: {name} must be {expected}, got {value!r:.60}")
    _check_plain(whole)
    whole = copy.deepcopy(whole)
    folder = whole["data"].get("folder")
    if isinstance(folder, str):  # the run may be looked at from another place
        whole["data"]["folder"] = str(Path(folder).absolute())
    return whole


def written(recipe: dict[str, Any]) -> str:
    """Return a checked recipe as the text of a TOML file that gives it again."""
    sections = [
        "\n".join([f"[{name}]", *(f"{_key(k)} = {_toml(v)}" for k, v in table.items())])
        for name, table in recipe.items()
        if table
    ]
    return "\n\n".join(sections) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inner = (f"{_key(name)} = {_toml(part)}" for name, part in value.items())
        return f"{{ {', '.join(inner)} }}" if value else "{}"
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return "[\n" + "".join(f"    {_toml(part)},\n" for part in value) + "]"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")  # which JSON leaves as it is


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _toml(name)


def only_known(owner: str, table: dict[str, Any], known: Iterable[str]) -> None:
    """Raise unless every key of `table` is one of `known`."""
    for key in table:
        if key not in known:
            raise ConfigError(
                f"{owner}: unknown key {key!r:.60}; known are {', '.join(known)}"
            )


def _check_plain(recipe: dict[str, Any]) -> None:
    """Raise unless every value can be kept as JSON and is a usual number."""
    for key, value in leaves(recipe):
        usual = (
            isinstance(value, str)
            or (isinstance(value, int) and abs(value) < 2**63)
            or (isinstance(value, float) and math.isfinite(value))
        )
        if not usual:
            raise ConfigError(
                f"recipe: {key} must be text, true, false, a finite number or an"
                f" integer of 64 bits, got {value!s:.60}"
            )


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of everything that is no table or list."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in parts:
            yield from leaves(part, f"{key}.{name}" if key else str(name))
    else:
        yield key, value
