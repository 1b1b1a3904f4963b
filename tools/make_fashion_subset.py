"""Make minigrad/data/fashion_mnist.npz, the part of Fashion-MNIST that comes with minigrad.

On Debian, with the package dataset-fashion-mnist installed:

    .venv/bin/python tools/make_fashion_subset.py

The same input gives the same arrays; the file's bytes also depend on the version of zlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from minigrad.data.fashion_mnist import DEBIAN, SUBSET, read_full

PER_CLASS = {"train": 1000, "t10k": 200}


def first_of_each_class(labels: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.intp]:
    """Positions of the first `count` samples of every class, in rising order."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]))


def main() -> None:
    """Read the full set, choose, and write."""
    parser = argparse.ArgumentParser(description="Make the part of Fashion-MNIST that comes with minigrad.")
    parser.add_argument("--folder", type=Path, default=DEBIAN, help="of the four IDX files (%(default)s)")
    parser.add_argument("--output", type=Path, default=SUBSET, help="the file to write (%(default)s)")
    options = parser.parse_args()

    arrays: dict[str, Any] = {}
    for part, count in PER_CLASS.items():
        images, labels = read_full(options.folder, part)
        chosen = first_of_each_class(labels, count)
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = images[chosen], labels[chosen]
    np.savez_compressed(options.output, **arrays)
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
