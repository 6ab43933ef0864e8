"""The threshold in a report: where alarms begin, why there, and what that gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sillar.cli.origin import RARE
from sillar.errors import ConfigError
from sillar.evidence import choose_threshold
from sillar.evidence.bootstrap import bootstrap_each
from sillar.evidence.findings import RESAMPLES, Tested, with_intervals
from sillar.evidence.page import Section


def add_threshold(
    section: Section,
    test: Tested,
    validation: Tested | None,
    promise: Mapping[str, Any],
    given: Any,
    names: Sequence[str],
) -> None:
    """Add the threshold `given` with the model, or one chosen on validation rows.

    Alarms are of the last of the two `names`.
    """
    rows = []
    _say_of_what(section, test, names)
    if isinstance(given, dict) and "reason" in given:
        value = 0.5
        section.text(
            "Alarms are raised at a probability of 0.5 and above, where the model was"
            f" set to give it: {given['reason']!s:.300}."
        )
        kept = {"recall": "recall", "precision": "precision"}
        kept["false_alarm_rate"] = "false-alarm rate"
        rows = [{"part": "where it was chosen"}]
        for name, title in kept.items():
            rows[0] |= {title: given.get(name, ""), f"{title}, 95 %": ""}
        rows[0] |= {"missed": "", "false alarms": ""}
    elif validation is None:
        section.text(
            "Alarms are raised above a probability of 0.5: there is no validation part"
            " to choose another threshold on. Set data.validation in the recipe.",
            warn=True,
        )
        return
    else:
        scores = validation.probabilities[:, 1]
        chosen = choose_threshold(validation.target, scores, **promise)
        value = chosen.value
        section.text(
            f"Alarms are raised at a probability of {value:.4f} and above, chosen on"
            f" the {len(scores)} rows of the validation part: {chosen.reason}."
        )
        rows = [_row("validation", validation, value)]
    section.table([*rows, _row("test", test, value)])


def _say_of_what(section: Section, test: Tested, names: Sequence[str]) -> None:
    section.text(f"An alarm says that a row is of the class {names[1]!r:.60}.")
    if test.target.mean() > 1 - RARE:
        section.text(
            f"Most rows are of that class. If {names[0]!r:.60} is what you look for,"
            " name it last in data.classes and train again.",
            warn=True,
        )


def _row(name: str, part: Tested, value: float) -> dict[str, Any]:
    alarms = (part.probabilities[:, 1] >= value).astype(np.int64)
    true = part.target
    found = bootstrap_each(_rates, true, alarms, resamples=RESAMPLES, stratify=True)
    names = "recall", "precision", "false-alarm rate"
    known = dict(zip(names, found, strict=True))
    values = {what: each.value for what, each in known.items()}
    row = with_intervals({"part": name, **values}, known)
    row["missed"] = int((true & (1 - alarms)).sum())
    row["false alarms"] = int((alarms & (1 - true)).sum())
    return row


def _rates(true: Any, alarms: Any) -> list[float]:
    """Return the recall, the precision and the false-alarm rate."""
    hits, false = int((alarms & true).sum()), int((alarms & (1 - true)).sum())
    sizes = int(true.sum()), hits + false, int((1 - true).sum())
    parts = zip((hits, hits, false), sizes, strict=True)
    return [count / max(1, size) for count, size in parts]


def parse_promise(
    recall: float | None, precision: float | None, cost: str | None
) -> dict[str, Any]:
    """Return what a threshold shall keep; a miss costs ten false alarms by default."""
    given: dict[str, Any] = {"recall": recall, "precision": precision}
    given = {name: value for name, value in given.items() if value is not None}
    if cost is not None:
        try:
            given["cost"] = tuple(float(part) for part in cost.split(":"))
        except ValueError:
            raise ConfigError(
                f"--cost: expected MISS:ALARM, as in 10:1, got {cost!r:.40}"
            ) from None
    return given or {"cost": (10.0, 1.0)}
