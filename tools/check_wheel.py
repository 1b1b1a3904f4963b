"""Check what a wheel of minigrad would put into somebody's site-packages.

    python tools/check_wheel.py dist/minigrad_norm-0.1.0-py3-none-any.whl

Wanted: one package, `minigrad`, with every module and data file of the checkout in its installed place. Above
all no top-level `layers`, `optim` or `examples`.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACES = {
    "minigrad": "minigrad",
    "layers": "minigrad/layers",
    "optim": "minigrad/optim",
    "examples": "minigrad/examples",
}
SUFFIXES = {".py", ".typed", ".npz", ".txt", ".cu", ".cuh", ".css", ".html", ".js", ".json"}


def wanted() -> set[str]:
    """Files of the package by their names in the wheel."""
    return {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, place in PLACES.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SUFFIXES
    }


def main() -> int:
    """Compare and report; 0 if the wheel is right."""
    (wheel,) = sys.argv[1:]
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.partition("/")[0].endswith(".dist-info")}
    problems = [f"missing: {name}" for name in sorted(wanted() - names)]
    problems += [f"should not be there: {name}" for name in sorted(names - wanted())]
    print("\n".join(problems) or f"{Path(wheel).name}: {len(names)} files, all in minigrad/")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
