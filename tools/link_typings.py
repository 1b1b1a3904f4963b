"""Keep typings/minigrad/ complete: one relative symbolic link for each part of the package.

layers/, optim/ and examples/ are inside `minigrad` only once installed; type checkers read the sources
through these links.

    python tools/link_typings.py            repair
    python tools/link_typings.py --check    only say what is wrong; exit status 1 if something is
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TYPINGS = ROOT / "typings" / "minigrad"
ELSEWHERE = ("layers", "optim", "examples")


def wanted(root: Path = ROOT) -> dict[str, str]:
    """Name of each link and where it leads, relative to typings/minigrad/."""
    inside = [
        path.name
        for path in (root / "minigrad").iterdir()
        if path.suffix == ".py" or path.name == "py.typed" or (path / "__init__.py").is_file()
    ]
    targets = {name: f"../../minigrad/{name}" for name in sorted(inside)}
    return targets | {name: f"../../{name}" for name in ELSEWHERE}


def found(typings: Path = TYPINGS) -> dict[str, str]:
    """Name of each link that is there and where it leads; an empty text for what is no link."""
    if not typings.is_dir():
        return {}
    return {path.name: path.readlink().as_posix() if path.is_symlink() else "" for path in typings.iterdir()}


def differences(links: dict[str, str], targets: dict[str, str]) -> list[str]:
    """Say how the links that are there differ from those that are wanted; nothing if they don't."""
    missing = [f"missing: {name}" for name in targets.keys() - links.keys()]
    extra = [f"leads nowhere: {name}" for name in links.keys() - targets.keys()]
    wrong = [
        f"wrong: {name} -> {links[name] or 'no link'}, wanted {targets[name]}"
        for name in links.keys() & targets.keys()
        if links[name] != targets[name]
    ]
    return sorted(missing + extra + wrong)


def repair(typings: Path, targets: dict[str, str]) -> None:
    """Make the links that are wanted and remove the others; refuses to remove what is no link."""
    typings.mkdir(parents=True, exist_ok=True)
    links = found(typings)
    for name, target in links.items():
        if not target:
            sys.exit(f"{typings / name} is not a symbolic link; move it away first")
        if targets.get(name) != target:
            (typings / name).unlink()
    for name, target in targets.items():
        if links.get(name) != target:
            (typings / name).symlink_to(target)


def main() -> int:
    """Repair, or with --check only report."""
    if "--check" not in sys.argv[1:]:
        repair(TYPINGS, wanted())
    problems = differences(found(), wanted())
    print("\n".join(problems) if problems else "typings/minigrad is complete")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
