"""Convolution with 3 x 3 kernels and stride 1 in a quarter of the multiplications.

Winograd's F(4x4, 3x3) (Lavin & Gray 2016, "Fast algorithms for convolutional neural
networks", section 4): an output tile of 4 x 4 cells depends on an input tile of 6 x 6.
With d an input tile, w the kernel and g the gradient at an output tile,

    y = A' [(G w G') * (B' d B)] A,   dd = B [(G w G') * (A g A')] B',
    dw = G' [(B' d B) * (A g A')] G,

where * multiplies cell by cell; summed over channels, or over tiles, that is 36 matrix
products. The matrices are Toom's and Cook's for the points 0, 2/3, -2/3, 3/2, -3/2 and
infinity, whose errors are half those of the usual 0, 1, -1, 2, -2.

A block is a few images and some of their rows of tiles. Its cells are copied once, with
the images innermost: (row, column, image, channel). Then the transform of all rows and
that of all columns are small matrix products over neighbouring cells, without copies.

On one core of the processor in benchmarks/results/convolution.json OpenBLAS (SkylakeX)
does the 36 products at 145 to 165 GFLOP/s with 32 and 64 channels and at 105 to 125
with 128, whose transformed kernels do not fit into L2; oneDNN's direct form does 170.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from sillar.backends.base import Array, Pair, Window
from sillar.backends.numpy import threads
from sillar.backends.numpy.scratch import few_buffers, take
from sillar.backends.numpy.strips import load, store
from sillar.backends.numpy.turned import conv_back

STEP = 4  # cells from one tile to the next
BLOCK = 3 << 17  # elements of transformed tiles at a time: 1.5 MiB in float32
LONG = 128  # images times channels from which a small product is worth its call
POINTS = np.array([0, 2 / 3, -2 / 3, 3 / 2, -3 / 2])


def _powers(count: int) -> Array:
    """Return 1, p, p^2, ... of every point p; infinity has the last power only."""
    out = np.zeros((6, count))
    out[:5] = POINTS[:, None] ** np.arange(count)
    out[5, -1] = 1
    return out


_A, _G = _powers(4).astype(np.float32), _powers(3)
_BT = np.linalg.inv(_powers(6)).T.round(12).astype(np.float32)
_AT, _B = np.ascontiguousarray(_A.T), np.ascontiguousarray(_BT.T)
# (36, 9): from the cells of a kernel to those of G w G', columns before rows
_GG = np.einsum("jb,ia->jiab", _G, _G).reshape(36, 9).astype(np.float32)


def conv(
    x: Array, w: Array, window: Window, groups: int, y: Array, bias: Array = None
) -> None:
    """Write the correlation of x (n, h, w, c) with w (3, 3, c / groups, k) into y."""
    (top, _), (left, _) = window.padding
    u = _kernels(_by_group(w, groups))
    sides = (_Reader, _BT, x.shape[3]), (_Writer, _AT, w.shape[3])
    for block, inputs, outputs in _blocks(y.shape, groups, *sides):
        inputs.read(x, block, -top, -left)
        np.matmul(inputs.tiles, u, out=outputs.tiles)
        outputs.write(y, block, 0, 0, bias)


def conv_input(g: Array, w: Array, window: Window, groups: int, dx: Array) -> None:
    """Write the gradient of `conv` for its input into dx, from g (n, oh, ow, k)."""
    apart = _by_group(w, groups)
    if tiles(dx.shape) <= tiles(g.shape):
        turned = apart.transpose(0, 1, 4, 2, 3).reshape(3, 3, -1, dx.shape[3])
        conv_back(conv, g, turned, window, groups, dx)
        return
    (top, _), (left, _) = window.padding
    u = _kernels(apart.transpose(0, 1, 2, 4, 3))
    sides = (_Reader, _A, g.shape[3]), (_Writer, _B, dx.shape[3])
    with few_buffers():
        for block, outputs, inputs in _blocks(g.shape, groups, *sides):
            outputs.read(g, block, 0, 0)
            np.matmul(outputs.tiles, u, out=inputs.tiles)
            inputs.write(dx, block, -top, -left)


def conv_weight(x: Array, g: Array, window: Window, groups: int, dw: Array) -> None:
    """Write the gradient of `conv` for its weight into dw (3, 3, c / groups, k)."""
    (top, _), (left, _) = window.padding
    c, k = dw.shape[2], dw.shape[3] // groups
    total = np.zeros((36, groups, c, k), np.float32)
    product = take("product", total.shape, np.float32)
    sides = (_Reader, _BT, x.shape[3]), (_Reader, _A, g.shape[3])
    for block, inputs, outputs in _blocks(g.shape, groups, *sides):
        inputs.read(x, block, -top, -left)
        outputs.read(g, block, 0, 0)
        np.matmul(inputs.tiles.transpose(0, 1, 3, 2), outputs.tiles, out=product)
        np.add(total, product, out=total)
    apart = (_GG.T @ total.reshape(36, -1)).reshape(3, 3, *total.shape[1:])
    _by_group(dw, groups)[...] = apart


def _by_group(w: Array, groups: int) -> Any:
    """Return a view of kernels (3, 3, c / groups, k) as (3, 3, groups, c, k)."""
    shape = (*w.shape[:3], groups, w.shape[3] // groups)
    return w.reshape(shape).transpose(0, 1, 3, 2, 4)


def _kernels(w: Array) -> Any:
    """Return G w G' of kernels (3, 3, groups, c, k): (36, groups, c, k)."""
    return (_GG @ w.reshape(9, -1)).reshape(36, *w.shape[2:])


def tiles(shape: tuple[int, ...]) -> int:
    """Return how many tiles images of a shape (n, h, w, c) have."""
    return shape[0] * -(-shape[1] // STEP) * -(-shape[2] // STEP)


class _Block(NamedTuple):
    """Images `first` to `first + images`, rows of tiles `row` to `row + rows`."""

    first: int
    images: int
    row: int
    rows: int
    columns: int  # all of them
    ends: bool  # with the last row of its images


def _blocks(
    shape: tuple[int, ...], groups: int, *sides: Any
) -> Iterator[tuple[Any, ...]]:
    """Yield the blocks of images with outputs of `shape`, and what holds their tiles.

    A side is (_Reader or _Writer, matrix, channels); blocks of one size share theirs.
    """
    n, (rows, columns) = shape[0], (-(-size // STEP) for size in shape[1:3])
    channels = [side[2] for side in sides]
    images, height = _block_size(n, rows, columns, channels)
    made: dict[Pair, list[Any]] = {}
    for first in range(0, n, images):
        for row in range(0, rows, height):
            size = min(images, n - first), min(height, rows - row)
            ends = row + height >= rows
            block = _Block(first, size[0], row, size[1], columns, ends)
            if size not in made:
                made[size] = [
                    make(str(i), block, matrix, depth, groups)
                    for i, (make, matrix, depth) in enumerate(sides)
                ]
            yield block, *made[size]


def _block_size(n: int, rows: int, columns: int, channels: list[int]) -> Pair:
    """Return how many images and rows of tiles a block has."""
    block = threads.block(BLOCK)
    images = max(1, min(n, -(-LONG // min(channels))))
    row = 36 * sum(channels) * columns  # elements of one image
    images = max(1, min(images, 2 * block // row))
    height = max(1, min(rows, round(block / (row * images))))
    height = -(-rows // -(-rows // height))  # the last block is hardly smaller
    if height == rows:
        images = max(1, min(n, max(images, round(block / (row * rows)))))
    return images, height


class _Reader:
    """Transforms the cells of a block into tiles: matrix @ tile @ matrix.T.

    `tiles` is (36, groups, rows * columns * images, channels), each cell apart.
    """

    def __init__(
        self, name: str, block: _Block, matrix: Array, channels: int, groups: int
    ) -> None:
        self.matrix, size, depth = matrix, matrix.shape[1], block.images * channels
        rows, columns = block.rows, block.columns
        height, width = STEP * (rows - 1) + size, STEP * (columns - 1) + size
        strip = take("strip", (height, width, block.images, channels), np.float32)
        lines = take("lines", (6, rows, width, depth), np.float32)
        tiles = take("tiles " + name, (6, 6, rows, columns, depth), np.float32)
        self.windows = _windows(strip.reshape(height, width * depth), rows, size)
        self.images = strip.transpose(2, 0, 1, 3)
        self.lines = lines.reshape(6, rows, width * depth).transpose(1, 0, 2)
        self.line_windows = _windows(lines, columns, size)
        self.cells = tiles.transpose(1, 2, 3, 0, 4)
        self.tiles = _products(tiles, channels, groups)

    def read(self, x: Array, block: _Block, top: int, left: int) -> None:
        """Transform a block of x, whose first cell is x[:, top, left]."""
        images = x[block.first : block.first + block.images]
        load(self.images, images, top + STEP * block.row, left)
        np.matmul(self.matrix, self.windows, out=self.lines)
        np.matmul(self.matrix, self.line_windows, out=self.cells)


class _Writer:
    """Transforms tiles into the cells of a block: the sum of matrix @ tile @ matrix.T.

    `tiles` is (36, groups, rows * columns * images, channels), each cell apart.
    """

    def __init__(
        self, name: str, block: _Block, matrix: Array, channels: int, groups: int
    ) -> None:
        size, depth = matrix.shape[0], block.images * channels
        rows, columns = block.rows, block.columns
        height, width = STEP * (rows - 1) + size, STEP * (columns - 1) + size
        tiles = take("tiles " + name, (6, 6, rows, columns, depth), np.float32)
        lines = take("lines", (6, rows, width, depth), np.float32)
        self.strip = take("strip", (height, width, block.images, channels), np.float32)
        self.tiles = _products(tiles, channels, groups)
        flat = lines.reshape(6, rows, -1).transpose(1, 0, 2)
        cells = tiles.transpose(1, 2, 3, 0, 4)
        self.along_columns = _Overlay(matrix, cells, lines)
        self.along_rows = _Overlay(matrix, flat, self.strip.reshape(height, -1))
        self.end = STEP * rows  # where the next block begins, within the strip
        shape = self.strip[self.end :].shape
        self.rest = take("rest of the strip", shape, np.float32)

    def write(
        self, y: Array, block: _Block, top: int, left: int, bias: Array = None
    ) -> None:
        """Write a block to y, where its first cell is y[:, top, left]."""
        self.along_columns.run()
        self.along_rows.run()
        strip = self.strip
        if block.row:
            strip[: len(self.rest)] += self.rest
        if not block.ends:
            self.rest[...] = strip[self.end :]
            strip = strip[: self.end]
        images = y[block.first : block.first + block.images]
        cells = strip.transpose(2, 0, 1, 3)
        store(cells, images, top + STEP * block.row, left, bias)


class _Overlay:
    """Writes matrix @ tile at every fourth cell along axis -2; adds where they meet."""

    def __init__(self, matrix: Array, tiles: Array, out: Array) -> None:
        self.matrix, self.more, self.tiles = matrix[:STEP], matrix[STEP:], tiles
        count, width, over = tiles.shape[-3], out.shape[-1], len(self.more)
        head, self.tail = out[..., : STEP * count, :], out[..., STEP * count :, :]
        self.heads = head.reshape(*out.shape[:-2], count, STEP, width)
        self.meeting = self.heads[..., 1:, :over, :]
        self.rest = take("rest", (*self.heads.shape[:-2], over, width), np.float32)
        self.before, self.final = self.rest[..., :-1, :, :], self.rest[..., -1, :, :]

    def run(self) -> None:
        """Write all tiles."""
        np.matmul(self.matrix, self.tiles, out=self.heads)
        if len(self.more):
            np.matmul(self.more, self.tiles, out=self.rest)
            np.add(self.meeting, self.before, out=self.meeting)
            np.copyto(self.tail, self.final)


def _products(tiles: Array, channels: int, groups: int) -> Any:
    """Return tiles as (36, groups, places, channels), to be multiplied by kernels."""
    return tiles.reshape(36, -1, groups, channels // groups).transpose(0, 2, 1, 3)


def _windows(cells: Array, count: int, size: int) -> Any:
    """Return `count` windows of `size` cells, from every fourth, of axis -2."""
    *others, step, last = cells.strides
    shape = (*cells.shape[:-2], count, size, cells.shape[-1])
    return as_strided(cells, shape, (*others, STEP * step, step, last))
