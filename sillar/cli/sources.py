"""[data] of a recipe: where examples come from, and how they are divided."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sillar.cli.detecting import NslKdd
from sillar.cli.origin import Examples, Parts, Source, in_order
from sillar.cli.recipe import changed
from sillar.cli.tables import Table
from sillar.cli.texts import Lines, Text
from sillar.data import Dataset, digits, mnist, read_csv, read_npz
from sillar.data.encoder import Encoder
from sillar.describe import construct
from sillar.errors import ConfigError, DataError, ShapeError, SillarError
from sillar.train import load_encoder
from sillar.train.evaluate import is_classification
from sillar.train.scoring import read_notes


@dataclass(frozen=True, kw_only=True)
class Digits(Examples):
    """The handwritten digits that come with the package."""

    test: float | int = 0.2
    split_seed: int = 0

    notes: ClassVar[dict[str, Any]] = {"scale": 16}

    def read(self) -> tuple[Dataset, Dataset]:
        return digits().split(self.test, seed=self.split_seed)


@dataclass(frozen=True, kw_only=True)
class Mnist(Examples):
    """MNIST from a folder with its four IDX files."""

    folder: str = ""

    notes: ClassVar[dict[str, Any]] = {"scale": 255}

    def read(self) -> tuple[Dataset, Dataset]:
        if not self.folder:
            raise ConfigError(
                "data: MNIST is read from its four IDX files: name their folder with"
                " --data DIR"
            )
        return mnist(self.folder), mnist(self.folder, train=False)


@dataclass(frozen=True, kw_only=True)
class _File(Examples):
    """One file that is split, or a second one to test on, both in `folder`."""

    path: str
    folder: str = ""
    test: float | int = 0.2
    test_path: str = ""
    split_seed: int = 0
    stratify: bool | None = None
    classes: list[str] | None = None

    def read(self) -> tuple[Dataset, Dataset]:
        whole = self.table(self.path, first=True)
        if self.classes is None and whole.classes is not None:
            sizes = np.bincount(whole.y, minlength=len(whole.classes)).tolist()
            names = in_order(dict(zip(whole.classes, sizes, strict=True)))
            whole = _aligned(whole, names)
        if self.test_path:
            test = self.table(self.test_path, first=False)
            return whole, _aligned(test, whole.classes)
        stratify = self.stratify
        if stratify is None:
            stratify = is_classification(whole) and whole.y.ndim == 1
        return whole.split(self.test, seed=self.split_seed, stratify=stratify)

    @abstractmethod
    def table(self, path: str, *, first: bool) -> Dataset:
        """Return the examples of one file, the `first` or the one to test on."""

    def named(self, x: np.ndarray, found: Dataset) -> Dataset:
        """Return x with the answers that were found, in the classes of the recipe."""
        if self.classes is None or found.classes is None:
            return Dataset(x, found.y, self.classes or found.classes, found.name)
        return _aligned(Dataset(x, found.y, found.classes, found.name), self.classes)


@dataclass(frozen=True, kw_only=True)
class Csv(_File):
    """Tables of numbers with a column of answers."""

    target: str | int
    delimiter: str = ","
    header: bool | None = None
    shape: list[int] | None = None

    def table(self, path: str, *, first: bool) -> Dataset:
        found = read_csv(
            Path(self.folder, path),
            target=self.target,
            header=self.header,
            delimiter=self.delimiter,
        )
        x = found.x if self.shape is None else _shaped(found.x, self.shape)
        return self.named(x, found)


@dataclass(frozen=True, kw_only=True)
class Npz(_File):
    """Arrays by name; x_test and y_test are their names in the file to test on."""

    x: str = "x"
    y: str = "y"
    x_test: str = ""
    y_test: str = ""

    def table(self, path: str, *, first: bool) -> Dataset:
        arrays = read_npz(Path(self.folder, path))
        names = self.x, self.y
        if not first:
            names = self.x_test or self.x, self.y_test or self.y
        for name in names:
            if name not in arrays:
                raise DataError(
                    f"data: {path!r} has no array {name!r}, it has"
                    f" {', '.join(arrays)}: name it with data.x and data.y"
                )
        x, y = (arrays[name] for name in names)
        return self.named(x, Dataset(x, y, None, Path(path).stem))


SOURCES = {
    "digits": Digits,
    "mnist": Mnist,
    "csv": Csv,
    "npz": Npz,
    "nsl-kdd": NslKdd,
    "table": Table,
    "text": Text,
    "lines": Lines,
}


def source(recipe: dict[str, Any]) -> Source:
    """Return the source that [data] of a checked recipe describes."""
    table = dict(recipe["data"])
    kind = table.pop("source", None)
    if not isinstance(kind, str) or kind not in SOURCES:
        raise ConfigError(
            f"data: unknown source {kind!r:.40}; known are {', '.join(SOURCES)}"
        )
    if "folder" in table and kind == "digits":
        raise ConfigError(
            "data: the digits come with the package: leave --data and folder away"
        )
    found: Source = construct("data", {**table, "type": kind}, SOURCES)
    return found


def source_of(
    recipe: dict[str, Any],
    path: Path,
    folder: Path | None = None,
    digests: dict[str, str] | None = None,
) -> tuple[Source, Parts]:
    """Return the source of a recipe, and its parts as the model in `path` has them.

    With other data in `folder`, all of it is tested on if no part of it is set apart
    for that. `digests` are of the parts that the run was begun with.
    """
    seed, encoder = recipe["training"]["seed"], load_encoder(path)
    if folder is None:
        origin = source(recipe)
        origin.use(encoder)
        parts = origin.parts(seed)
    else:
        origin = source(changed(recipe, [("data.folder", str(folder.absolute()))]))
        origin.use(encoder)
        found, whole = _parts_elsewhere(origin, seed, digests)
        if whole is not None:
            found = Parts(*_trained_on(recipe, encoder, seed, whole), whole)
        parts = found or origin.parts(seed)
    classes, known = parts.test.classes, read_notes(path).get("classes")
    if classes is not None and known is not None and list(classes) != known:
        raise DataError(
            f"data: expected the classes {known!r:.80} of the model in that order, got"
            f" {list(classes)!r:.80}: its numbers would mean something else"
        )
    return origin, parts


def _parts_elsewhere(
    origin: Source, seed: int, digests: dict[str, str] | None
) -> tuple[Parts | None, Dataset | None]:
    """Return the parts, or all rows instead if these are not the run's own rows."""
    try:
        parts = origin.parts(seed)
    except SillarError:  # too few rows to cut, or no column to cut by
        return None, origin.whole()
    return parts, None if parts.digests() == digests else origin.whole()


def _trained_on(
    recipe: dict[str, Any], encoder: Encoder | None, seed: int, whole: Dataset
) -> tuple[Dataset, Dataset | None]:
    """Return the run's own parts to train on and to validate; no rows without them."""
    first = source(recipe)
    first.use(encoder)
    try:
        train, validation, _ = first.parts(seed)
    except SillarError:  # the file is not here any more
        return whole.take(np.zeros(0, np.int64)), None
    return train, validation


def settled(recipe: dict[str, Any], train: Dataset) -> dict[str, Any]:
    """Return the recipe with the order of classes that was found in the data.

    So other data, in which other classes are rare or missing, is numbered alike.
    """
    table = recipe["data"]
    kind = SOURCES[table["source"]]
    if train.classes is None or "classes" not in {f.name for f in fields(kind)}:
        return recipe
    return recipe | {"data": table | {"classes": list(train.classes)}}


def _shaped(x: np.ndarray, shape: list[int]) -> np.ndarray:
    try:
        return x.reshape(len(x), *shape)
    except (TypeError, ValueError):
        raise ShapeError(
            f"data: rows of {x.shape[1]} numbers cannot have the shape {shape!r:.60}"
        ) from None


def _aligned(dataset: Dataset, classes: Sequence[str] | None) -> Dataset:
    """Return the data set with class numbers in the order of `classes`."""
    own = dataset.classes
    if own is None and classes is None:
        return dataset
    if own is None or classes is None:
        raise DataError(
            "data: the answers of the test file must be of the kind of the training"
            " file, both words or both numbers"
        )
    unknown = sorted(set(own) - set(classes))
    if unknown:
        raise DataError(
            f"data: {dataset.name} has the classes {unknown!r:.80}, which are not among"
            f" {list(classes)!r:.80}"
        )
    numbers = np.array([classes.index(name) for name in own])
    return Dataset(dataset.x, numbers[dataset.y], tuple(classes), dataset.name)
