"""A partition of a Dask collection as numbers: what runs on the workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sillar.data import Encoder, TableTransform
from sillar.errors import ConfigError, DataError, SillarError


class Form(NamedTuple):
    """What of a partition is wanted, and as what."""

    target: str | int | None = None  # the column of answers
    left: tuple[str, ...] = ()  # columns that are no input
    encoder: dict[str, Any] | None = None  # as `describe` gives it
    dtype: str | None = None


def numbers_of(part: Any, form: Form, encoder: Encoder | None = None) -> np.ndarray:
    """Return the inputs x (n, ...) in a partition: an array, a frame, or records."""
    if isinstance(part, np.ndarray):
        return _finite(part if form.dtype is None else part.astype(form.dtype), None)
    columns = columns_of(part)
    if isinstance(encoder, TableTransform):
        return encoder(columns)
    if encoder is not None:
        return encoder(_texts(columns))
    inputs = [n for n in columns if n != form.target and n not in form.left]
    if not inputs:
        raise DataError("expected columns of inputs, got none")
    n = len(columns[inputs[0]])
    x = np.empty((n, len(inputs)), form.dtype or "float32")
    for place, name in enumerate(inputs):
        try:
            with np.errstate(over="ignore"):
                x[:, place] = columns[name]
        except (ValueError, TypeError) as fault:
            raise DataError(
                f"column {name!r:.60}: expected numbers ({fault!s:.100}); give an"
                " encoder, or leave the column out"
            ) from None
    return _finite(x, inputs)


def columns_of(part: Any) -> dict[Any, Any]:
    """Return the columns of a frame or of records; texts are one column, "text"."""
    if hasattr(part, "columns"):
        return {name: _plain(part[name]) for name in part.columns}
    rows = part if isinstance(part, list) else list(part)
    if not rows:
        return {}
    first = rows[0]
    if isinstance(first, str):
        return {"text": rows}
    if isinstance(first, dict):
        _check_names(rows, first)
        return {name: [row[name] for row in rows] for name in first}
    try:
        return dict(enumerate(zip(*rows, strict=True)))
    except (TypeError, ValueError):
        raise DataError(
            "expected records of one length: dictionaries, or lists of numbers, got"
            f" {first!r:.60}"
        ) from None


def answers_of(part: Any, form: Form) -> list[str]:
    """Return the answers in a partition as texts; what is missing is empty."""
    if form.target is None:
        return []
    if isinstance(part, np.ndarray):
        raise ConfigError("for an array, give the answers as another one: target=y")
    columns = columns_of(part)
    if not columns:
        return []
    if form.target not in columns:
        raise ConfigError(
            f"expected target to be one of {', '.join(map(str, columns))!s:.200}, got"
            f" {form.target!r:.60}"
        )
    return [_text(value) for value in columns[form.target]]


def encoder_of(form: Form) -> Encoder | None:
    """Return the encoder that goes with a form."""
    from sillar.data.encoders import build_encoder

    return None if form.encoder is None else build_encoder(form.encoder)


def in_partition(number: int, operation: str, fault: BaseException) -> SillarError:
    """Return the error that says in which partition something went wrong."""
    kind = type(fault) if isinstance(fault, SillarError) else DataError
    text = f"{fault}" if isinstance(fault, SillarError) else f"{fault!r:.300}"
    return kind(f"{operation}: partition {number}: {text}")


def _plain(series: Any) -> Any:
    """Return a column as an array; numbers with gaps as floats with NaN."""
    kind = getattr(series.dtype, "kind", "O")
    if kind in "iufb" and not isinstance(series.dtype, np.dtype) and series.hasnans:
        return series.to_numpy("float64", na_value=np.nan)
    return series.to_numpy()


def _check_names(rows: Sequence[dict[Any, Any]], first: dict[Any, Any]) -> None:
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != first.keys():
            raise DataError(
                f"row {place}: expected the names {', '.join(map(str, first))!s:.200},"
                f" got {row!r:.100}; give every record the same names"
            )


def _texts(columns: dict[Any, Any]) -> Sequence[str]:
    if not columns:
        return []
    if len(columns) != 1:
        raise DataError(
            f"expected one column of texts, got {', '.join(map(str, columns))!s:.200}"
        )
    return [_text(value) for value in next(iter(columns.values()))]


def _text(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    missing = value is None or value != value or type(value).__name__ == "NAType"
    return "" if missing else str(value)


def _finite(x: np.ndarray, names: Sequence[Any] | None) -> np.ndarray:
    if x.dtype.kind not in "biuf":
        raise DataError(f"expected real numbers, got {x.dtype}")
    good = np.isfinite(x)
    if not good.all():
        place = tuple(int(i) for i in np.argwhere(~good)[0])
        column = "" if names is None else f", column {names[place[1]]!r:.60}"
        raise DataError(
            f"row {place[0]}{column}: expected a finite number, got {x[place]}; fill it"
            " in, or leave the row out"
        )
    return x
