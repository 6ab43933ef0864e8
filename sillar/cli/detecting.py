"""[detector] of a recipe: what is built around the model once it is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sillar.cli import show
from sillar.cli.origin import Finer, Kinds, Parts, Source, row_told
from sillar.data import Dataset, TableTransform
from sillar.detectors import intrusion
from sillar.detectors.nsl_kdd import (
    CATEGORIES,
    TEST,
    TEST_21,
    TRAIN,
    Traffic,
    is_there,
    read_nsl_kdd,
)
from sillar.detectors.rounds import Rounds
from sillar.errors import ConfigError
from sillar.nn import Layer

Fit = Callable[[Dataset], Layer]  # trains another model of the recipe


@dataclass(frozen=True, kw_only=True)
class NslKdd(Source):
    """NSL-KDD: the training file is trained on, and the official test file tested on.

    Nothing is held back: the threshold is chosen on types of attack left out in turn.
    """

    folder: str = ""
    train: str = TRAIN
    test: str = TEST
    read: dict[str, Traffic] = field(default_factory=dict, init=False, repr=False)

    def traffic(self) -> Traffic:
        """Return the connections to train on."""
        return self._read(self.train)

    def parts(self, seed: int) -> Parts:
        if self.validation:
            raise ConfigError(
                "data: leave validation away: the detector chooses its threshold on"
                " types of attack that it leaves out of training in turn"
            )
        known, test = self.traffic(), self._read(self.test)
        self.read["test"] = test
        transform = intrusion.new_transform().fit(known.columns)
        object.__setattr__(self, "notes", {"encoder": transform})
        train = _dataset(transform, known, self.train)
        return Parts(train, None, _dataset(transform, test, self.test))

    def told(self, row: int) -> str | None:
        test = self.read["test"]
        return f"{test.kinds[row]}: {row_told(test.columns, row)}"

    def kinds(self) -> list[Kinds]:
        """Return the file to test on, and KDDTest-21, the hard half of it."""
        known = self.traffic()
        transform = intrusion.new_transform().fit(known.columns)
        return [
            Kinds(_dataset(transform, test, name), test.kinds, frozenset(known.kinds))
            for name, test in self._tests()
        ]

    def finer(self) -> Finer:
        """Return the five categories of connections."""
        known = self.traffic()
        x = intrusion.new_transform().fit(known.columns)(known.columns)
        train = Dataset(x, known.categories, CATEGORIES, self.train)
        return Finer(train, [test.categories for _, test in self._tests()])

    def _tests(self) -> list[tuple[str, Traffic]]:
        names = [self.test]
        if self.test == TEST and is_there(self.folder, TEST_21):
            names.append(TEST_21)
        return [(name, self._read(name)) for name in names]

    def _read(self, name: str) -> Traffic:
        if not self.folder:
            raise ConfigError("data: name the folder of NSL-KDD with --data DIR")
        return read_nsl_kdd(self.folder, name)


def _dataset(transform: TableTransform, traffic: Traffic, name: str) -> Dataset:
    x = transform(traffic.columns)
    return Dataset(x, traffic.attacks, intrusion.CLASSES, name)


@dataclass(frozen=True, kw_only=True)
class Intrusion:
    """The detector of intrusions, around a classifier of connections."""

    epochs: int = 100
    folds: int = 5
    miss: float = 10.0
    false_alarm: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("folds", 2)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigError(f"{name} must be an integer >= {least}, got {value}")

    def complete(
        self, model: Layer, origin: Source, fit: Fit, seed: int, kept: Rounds
    ) -> tuple[Layer, dict[str, Any]]:
        """Return the detector's model, and notes on it; `kept` has finished rounds."""
        if not isinstance(origin, NslKdd):
            raise ConfigError('detector: intrusion needs data.source = "nsl-kdd"')

        def train(x: np.ndarray, y: np.ndarray) -> Layer:
            return fit(Dataset(x, y, intrusion.CLASSES)).to("numpy")

        found = intrusion.complete(
            model.to("numpy"),
            origin.traffic(),
            train,
            folds=self.folds,
            epochs=self.epochs,
            cost=(self.miss, self.false_alarm),
            seed=seed,
            on_round=show.say,
            kept=kept,
        )
        return found.model, found.notes()


DETECTORS = {"intrusion": Intrusion}
