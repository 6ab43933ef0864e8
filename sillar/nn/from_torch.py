"""Weights from PyTorch: its names, its axes and its flattened images, as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from sillar.core.parameter import Parameter
from sillar.errors import ConfigError, DtypeError
from sillar.nn.attention import Attention
from sillar.nn.convolutions import Conv2DTranspose, DepthwiseConv2D
from sillar.nn.images import Conv2D
from sillar.nn.layer import Layer, parts_of
from sillar.nn.layers import Dense, Embedding, Flatten, Sequential
from sillar.nn.normalization import BatchNorm, GroupNorm, LayerNorm
from sillar.nn.positions import LearnedPositions
from sillar.nn.recurrent import Recurrent
from sillar.nn.series import Conv1D
from sillar.nn.transformer import TransformerBlock

Arrays = Mapping[str, Any]
Converter = Callable[[Any, Arrays], dict[str, Any]]


def from_torch(
    model: Layer, state_dict: Arrays, *, channels: Mapping[str, int] | None = None
) -> Layer:
    """Fill `model` with the tensors or arrays of a PyTorch `state_dict`; return it.

    Names are those of PyTorch: attributes, keys and positions, "0.weight" in a
    Sequential. What reads a Flatten after a convolution is turned from channels first
    to channels last; `channels` gives the channels of such images, by the name of the
    Dense, where no layer says them. Nothing is changed on a mismatch.
    """
    transfer = _Transfer(_read(state_dict), channels or {})
    transfer.visit(model, "")
    transfer.check()
    declared = _declared(model)
    found = {path: transfer.values[id(p)] for path, p in declared.items()}
    double = any(array.dtype == np.float64 for array in found.values())
    dtype = np.float64 if double else np.float32
    model.load_state({path: array.astype(dtype) for path, array in found.items()})
    return model


def _same(layer: Layer, given: Arrays) -> dict[str, Any]:
    """Return the layer's own arrays, which have equal names and axes in PyTorch."""
    return {name: given[name] for name in _declared(layer)}


def _turned(*axes: int) -> Converter:
    """Return a converter that puts the axes of the weight in this order."""

    def convert(layer: Layer, given: Arrays) -> dict[str, Any]:
        found = _same(layer, given)
        if found["weight"].ndim == len(axes):  # if not, the shape is wrong as well
            found["weight"] = found["weight"].transpose(axes)
        return found

    return convert


def _attention(layer: Any, given: Arrays) -> dict[str, Any]:
    """Return the arrays of an Attention from those of a MultiheadAttention."""
    width, kv_width = layer.width, layer.kv_width
    found = {"out.weight": given["out_proj.weight"].T}
    if kv_width is None:
        found["qkv.weight"] = given["in_proj_weight"].T
    elif kv_width == width:
        both = given["in_proj_weight"].T
        found["query.weight"], found["key_value.weight"] = np.hsplit(both, [width])
    else:
        found["query.weight"] = given["q_proj_weight"].T
        parts = [given[f"{part}_proj_weight"].T for part in "kv"]
        found["key_value.weight"] = np.hstack(parts)
    if layer.bias:
        found["out.bias"], bias = given["out_proj.bias"], given["in_proj_bias"]
        found["qkv.bias"] = bias
        found["query.bias"], found["key_value.bias"] = np.hsplit(bias, [width])
    return found


BLOCK = {  # our names in a TransformerBlock, PyTorch's in a TransformerEncoderLayer
    "attention_norm": "norm1",
    "mlp_norm": "norm2",
    "mlp.layers.0": "linear1",
    "mlp.layers.2": "linear2",
}


def _block(layer: Any, given: Arrays) -> dict[str, Any]:
    """Return the arrays of a block from those of a TransformerEncoderLayer."""
    inner = _attention(layer.attention, _Below(given, "self_attn.", set()))
    found = {f"attention.{name}": array for name, array in inner.items()}
    for path, p in layer.parameters().items():
        owner, _, name = path.rpartition(".")
        if owner in BLOCK:
            array = given[f"{BLOCK[owner]}.{name}"]
            found[path] = array.T if p.ndim == 2 else array
    return found


def _transposed(layer: Layer, given: Arrays) -> dict[str, Any]:
    """Return the layer's own arrays, whose names are equal in PyTorch, transposed."""
    return {name: array.T for name, array in _same(layer, given).items()}


# layer type: (layer, arrays by the names in its PyTorch module) -> arrays by its own
CONVERTERS: dict[type[Layer], Converter] = {
    Attention: _attention,
    BatchNorm: _same,
    Conv1D: _turned(2, 1, 0),
    Conv2D: _turned(2, 3, 1, 0),
    Conv2DTranspose: _turned(2, 3, 1, 0),
    Dense: _turned(1, 0),
    DepthwiseConv2D: _turned(2, 3, 1, 0),
    Embedding: _same,
    GroupNorm: _same,
    LayerNorm: _same,
    LearnedPositions: _same,
    TransformerBlock: _block,
    Recurrent: _transposed,
}
NORMS = (BatchNorm, GroupNorm, LayerNorm)  # they leave channels as they are
COUNT = "num_batches_tracked"  # of a BatchNorm; it has no place here


class _Below(Mapping[str, Any]):
    """The arrays below a prefix; what is asked for is written down in `asked`."""

    def __init__(self, arrays: Arrays, prefix: str, asked: set[str]) -> None:
        self.arrays, self.prefix, self.asked = arrays, prefix, asked

    def __getitem__(self, name: str) -> Any:
        self.asked.add(self.prefix + name)
        return self.arrays[self.prefix + name]

    def __iter__(self) -> Iterator[str]:
        start = len(self.prefix)
        return (name[start:] for name in self.arrays if name.startswith(self.prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Transfer:
    """A walk over a model that gathers its values, and what is wrong with them."""

    def __init__(self, given: Arrays, channels: Mapping[str, int]) -> None:
        self.given, self.told = given, dict(channels)
        self.asked: set[str] = set()
        self.faults: list[str] = []
        self.values: dict[int, Any] = {}  # by the id of the parameter
        self.channels: int | None = None  # of the images at this place, if known
        self.flat = False

    def visit(self, part: Any, path: str, above: tuple[int, ...] = ()) -> None:
        """Gather the values of `part` and of all below it, in order of definition."""
        if isinstance(part, Parameter):
            self.asked.add(path)
            if path in self.given:
                self._put(path, part, self.given[path])
        elif isinstance(part, Flatten):
            self.flat = self.channels is not None
        elif convert := _converter(part):
            self._layer(part, path, convert)
        elif id(part) not in above:
            held = part.layers if isinstance(part, Sequential) else part
            for below, _, inner in parts_of(held, path):
                self.visit(inner, below, (*above, id(part)))

    def _layer(self, layer: Layer, path: str, convert: Converter) -> None:
        declared = _declared(layer)
        below = _Below(self.given, f"{path}." if path else "", self.asked)
        known = all(id(p) in self.values for p in declared.values())
        if len(below) or not known:  # a layer in two places may be given once
            flattened = self.told.pop(path, self.channels if self.flat else None)
            try:
                found = convert(layer, below)
            except KeyError:  # `asked` says what is missing
                return
            found = self._channels_last(layer, path, found, flattened)
            for name, p in declared.items():
                self._put(below.prefix + name, p, found[name])
        if not isinstance(layer, NORMS):
            self.channels, self.flat = getattr(layer, "c_out", None), False

    def _channels_last(
        self, layer: Layer, path: str, found: dict[str, Any], channels: int | None
    ) -> dict[str, Any]:
        """Return the arrays with the order of their inputs turned to channels last."""
        if channels is None:
            return found
        whole = [n for n in found if isinstance(layer, NORMS) or n == "weight"]
        if any(len(found[name]) % channels for name in whole):
            self.faults.append(
                f"{path}: {len(found[whole[0]])} inputs are no images of {channels}"
                " channels: say how many there are, as in"
                f" from_torch(..., channels={{{path!r}: 1}})"
            )
            return found
        return found | {name: _turned_rows(found[name], channels) for name in whole}

    def _put(self, name: str, p: Parameter, array: Any) -> None:
        if array.shape != p.shape:
            self.faults.append(f"{name}: expected shape {p.shape}, got {array.shape}")
        elif not np.array_equal(self.values.setdefault(id(p), array), array, True):
            self.faults.append(f"{name}: one parameter of ours has two values there")

    def check(self) -> None:
        """Raise if anything is missing, left over or of the wrong shape."""
        taken = {_place(self.given[name]) for name in self.asked & self.given.keys()}
        missing = sorted(self.asked - self.given.keys())
        unexpected = [
            name
            for name, array in self.given.items()
            if name not in self.asked and _place(array) not in taken
        ]
        if missing or unexpected or self.faults or self.told:
            raise ConfigError(
                f"from_torch: the weights are not this model's: missing {missing},"
                f" unexpected {unexpected}{''.join(f'; {f}' for f in self.faults)}"
                f"{_unknown(self.told)}: build the model with the same layers, names"
                " and sizes, and leave out entries that are no weights"
            )


def _read(state_dict: Arrays) -> dict[str, Any]:
    """Return the entries as arrays; torch itself is not needed for it."""
    if not isinstance(state_dict, Mapping):
        raise ConfigError(
            f"from_torch: expected a state_dict, got {type(state_dict).__name__}: call"
            " model.state_dict()"
        )
    return {
        name: _array(name, value)
        for name, value in state_dict.items()
        if name.rpartition(".")[2] != COUNT
    }


def _array(name: str, value: Any) -> Any:
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except TypeError as error:  # a type that NumPy has not, as bfloat16
        raise DtypeError(
            f"from_torch: {name} cannot be read: {error}: convert it, as in"
            " model.float().state_dict()"
        ) from None
    if array.dtype.kind not in "fiub":
        raise DtypeError(f"from_torch: {name} holds no numbers: {array.dtype}")
    return array


def _converter(part: Any) -> Converter | None:
    kinds = type(part).__mro__
    return next((CONVERTERS[kind] for kind in kinds if kind in CONVERTERS), None)


def _declared(layer: Layer) -> dict[str, Parameter]:
    return {**layer.parameters(), **layer.buffers()}


def _turned_rows(array: Any, channels: int) -> Any:
    """Return rows (channels, cells) in the order (cells, channels)."""
    parts = array.reshape(channels, -1, *array.shape[1:])
    return parts.swapaxes(0, 1).reshape(array.shape)


def _place(array: Any) -> tuple[int, tuple[int, ...]]:
    """Return what tied entries have in common: where they lie, and their shape."""
    return array.__array_interface__["data"][0], array.shape


def _unknown(told: Mapping[str, int]) -> str:
    return f"; channels for {[*told]}, which no layer here reads" if told else ""
