"""What every source of examples takes, and what it gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np

from sillar.data import Dataset
from sillar.data.encoder import Encoder
from sillar.data.table import kind_of
from sillar.errors import ConfigError
from sillar.train.prepare import parts as divide


class Parts(NamedTuple):
    """What is trained on, what is looked at after each epoch, and what is tested."""

    train: Dataset
    validation: Dataset | None
    test: Dataset

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each part that there is."""
        parts = self._asdict().items()
        return {name: part.digest() for name, part in parts if part is not None}


class Kinds(NamedTuple):
    """A file to test on whose rows are told apart more finely than by class."""

    part: Dataset
    kinds: np.ndarray  # names, one for each row
    known: frozenset[str]  # those that were trained on


class Finer(NamedTuple):
    """Rows in more classes than the two that are told; the first is of no alarm."""

    train: Dataset  # the part to train on, in these classes
    truths: list[np.ndarray]  # of the rows of each file of `kinds`


SHOWN = 12  # cells of a row
RARE = 0.25  # share of a class that is taken for what is looked for


def in_order(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return the classes by name; of two, one that is rare comes last.

    Alarms, thresholds and average precision are of the last of two classes. Names that
    are numbers stay in order, because 1 is what is looked for.
    """
    names = sorted(counts)
    numbers = all(kind_of(name) != "word" for name in names)
    if len(names) == 2 and not numbers:
        first, second = (counts[name] for name in names)
        if first < RARE * (first + second):
            names.reverse()
    return tuple(names)


def row_told(columns: Mapping[str, Sequence[Any]], number: int) -> str:
    """Return the first cells of a row with the names of their columns."""
    cells = [f"{name} {cells[number]}" for name, cells in columns.items()]
    return ", ".join(cells[:SHOWN]) + (", ..." if len(cells) > SHOWN else "")


CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {  # by the type of a field
    "str": (lambda v: isinstance(v, str), "text"),
    "bool | None": (lambda v: isinstance(v, bool), "true or false"),
    "int": (lambda v: type(v) is int and v >= 0, "an integer of at least 0"),
    "float | int": (lambda v: type(v) in (int, float), "a share or a number of rows"),
    "Sequence[Any]": (lambda v: isinstance(v, list), "a list of tables"),
    "list[str] | None": (
        lambda v: isinstance(v, list) and all(isinstance(name, str) for name in v),
        "a list of names",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """What every source takes: how much of the training part to hold back."""

    validation: float | int = 0
    augment: Sequence[Any] = ()  # tables of changes of images, only for training

    notes: ClassVar[dict[str, Any]] = {}  # on the model: scale of pixels, kind of text

    def __post_init__(self) -> None:
        for field in fields(self):
            value, check = getattr(self, field.name), CHECKS.get(str(field.type))
            if check is not None and value != field.default and not check[0](value):
                raise ConfigError(f"{field.name} must be {check[1]}, got {value!r:.60}")

    @abstractmethod
    def parts(self, seed: int) -> Parts:
        """Return all parts; `seed` draws the validation part."""

    def use(self, encoder: Encoder | None) -> None:
        """Take what was learned of the columns from a trained model's file."""

    def words(self) -> dict[str, Any]:
        """Return what further words in [model] stand for, once the parts were read."""
        return {}

    def told(self, row: int) -> str | None:
        """Return how a row of the part to test on reads in its file, if it is text."""
        return None

    def kinds(self) -> list[Kinds]:
        """Return the files to test on, if their rows have kinds as well as classes."""
        return []

    def whole(self) -> Dataset | None:
        """Return all rows to test on, of a file in which no part is set apart."""
        return None

    def finer(self) -> Finer | None:
        """Return the classes between the two to tell and the kinds, if there are."""
        return None


class Examples(Source):
    """A source whose validation part is drawn from the part to train on."""

    @abstractmethod
    def read(self) -> tuple[Dataset, Dataset]:
        """Return the part to train on and the part to test on."""

    def parts(self, seed: int) -> Parts:
        train, test = self.read()
        return Parts(*divide(train, self.validation or None, seed), test)
