"""Tied weights: one parameter that stands in several places, as plain data and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sillar.core.parameter import Parameter
from sillar.errors import ConfigError
from sillar.nn.layer import Layer, parts_of


class _Place(NamedTuple):
    """Where a parameter stands: its dotted path, what holds it, and its name there."""

    path: str
    holder: Any
    name: Any
    parameter: Parameter


def ties(layer: Layer) -> dict[str, str]:
    """Return {path: path of the same parameter's first place} for all later places."""
    first: dict[int, str] = {}
    found = {}
    for place in _places(layer):
        known = first.setdefault(id(place.parameter), place.path)
        if known != place.path:
            found[place.path] = known
    return found


def tie(owner: str, layer: Layer, given: Any) -> None:
    """Put the parameter of one path at another, for each {later path: first path}."""
    places = {place.path: place for place in _places(layer)}
    named = [*given, *given.values()] if isinstance(given, dict) else [None]
    if not all(isinstance(path, str) and path in places for path in named):
        raise ConfigError(
            f"{owner}: ties must lead from paths of parameters to others, got"
            f" {given!r:.200}"
        )
    for later, first in given.items():
        old, new = places[later], places[first].parameter
        if old.parameter.shape != new.shape or type(old.parameter) is not type(new):
            raise ConfigError(
                f"{owner}: {later} {old.parameter.shape} cannot be the same as {first}"
                f" {new.shape}: tie parameters of one shape"
            )
        if isinstance(old.holder, Layer):
            setattr(old.holder, old.name, new)
        else:
            old.holder[old.name] = new
    if ties(layer) != given:
        raise ConfigError(
            f"{owner}: each tie must lead from a later place to the first, got"
            f" {given!r:.200} for {ties(layer)!r:.200}"
        )


def _places(part: Any, path: str = "", above: tuple[int, ...] = ()) -> Iterator[_Place]:
    """Yield all places of parameters below `part`, one that is tied more than once."""
    if id(part) in above:
        return
    for below, name, inner in parts_of(part, path):
        if isinstance(inner, Parameter):
            yield _Place(below, part, name, inner)
        else:
            yield from _places(inner, below, (*above, id(part)))
