"""The page of documentation that keeps the matrix and the conventions at kinks."""

from __future__ import annotations

from sillar.testing.cases.kinks import KINKS, PYTORCHS

START = """\
# Every derivative, checked

Written by `python -m sillar.testing --write docs/derivatives.md`. Without `--write` the
command only prints the table. It ends with status 1 if a cell failed or is empty, and
with `--json` its last line is an object that also has the error in each cell.

A row is a primitive, a layer or a loss, with all its cases in `sillar/testing/cases/`.
The columns are shapes, below them precisions, below them orders: 1 is the gradient, 2
the product of the Hessian with a vector, 3 the derivative of that along another one.
`ok` in `f64` says that no number is further than 1e-7 of the largest from central
differences. `ok` in `f32` says that none is further than 1e-5, 1e-4 and 1e-3 from those
in `f64`, for the three orders, and that each gradient on the way is of type float32.
A letter stands for a reason, which is given below the table. What is differentiated is
the sine of the output, so that every order of a linear function differs from zero.

- `broadcast`: an array or a mask is stretched along others, or there is one axis more.
- `odd`: axes of length 1, single numbers, batches of one, and memory that runs
  backwards with gaps.
- `empty`: axes of length 0.

Layers are tried at inference, and in training where it is different. What draws numbers
draws others in float32, so `f32` has dropout at inference alone. In training,
`BatchNorm` refuses one value per channel, or none; networks that contain it are then
checked at inference.

"""
KINKS_START = """
## Where there is no derivative

A convention stands in the docstring of the function. It is PyTorch's, unless said
otherwise, and pinned in `tests/core/test_conventions.py`.

"""


def page(table: str) -> str:
    """Return the page that keeps `table`."""
    kinks = "".join(map(_kink, KINKS))
    return f"{START}```text\n{table}```\n{KINKS_START}{kinks}"


def _kink(name: str) -> str:
    theirs = f" (in PyTorch {PYTORCHS[name]})" if name in PYTORCHS else ""
    return f"- `{name}`: {KINKS[name].says}{theirs}\n"
