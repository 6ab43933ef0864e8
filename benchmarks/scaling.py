"""Training on 1, 2 and 4 ranks: time, efficiency, bytes, and where it would end.

    python -m benchmarks.scaling [--data DIR] [--steps 50] [--keep]

What `sillar bench scaling` measures, for the recipe `digits` and, with DIR, the folder
of its four IDX files, for `mnist`. Each rank has one thread.
"""

import argparse

from benchmarks.machine import keep
from sillar.cli import show
from sillar.cli.bench import scaling, tables

RANKS = (1, 2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="folder of MNIST's IDX files")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--keep", action="store_true", help="write into results/")
    options = parser.parse_args()
    changes = {"digits": [("training.batch_size", 256)]}
    if options.data:
        folder = ("data.folder", options.data)
        changes["mnist"] = [("training.batch_size", 512), folder]
    found = {
        name: scaling(name, RANKS, given, options.steps)
        for name, given in changes.items()
    }
    for result in found.values():
        show.put(*tables(result))
    if options.keep:
        print(keep("scaling", {"steps": options.steps, "recipes": found}))


if __name__ == "__main__":
    main()
