"""Which elements share a statistic, for every normalization: as text, or as the figures of docs/normalization.md.

Run it with ``python -m minigrad.examples.sharing``, and ``--svg docs/figures`` to write the figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from minigrad import layers

SHAPE = (4, 6, 3, 2)
MEMBERS = {
    "batch-norm": layers.BatchNorm2d(6),
    "layer-norm": layers.LayerNorm((6, 3, 2)),
    "group-norm": layers.GroupNorm(2, 6),
    "instance-norm": layers.InstanceNorm2d(6),
    "rms-norm": layers.RMSNorm((6, 3, 2)),
    "local-response-norm": layers.LocalResponseNorm(3),
}


def main(given: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--svg", type=Path, metavar="FOLDER", help="write a picture of each into this folder")
    parser.add_argument("--tiny", action="store_true", help="accepted like by all examples; this one is always quick")
    folder = parser.parse_args(given).svg
    for name, layer in MEMBERS.items():
        if folder is None:
            print(f"{layers.draw_sharing(layer, SHAPE)}\n")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"sharing-{name}.svg"
            path.write_text(layers.draw_sharing(layer, SHAPE, format="svg"), encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
