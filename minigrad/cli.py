"""The command `minigrad`: train a network, or check the installation. Also `python -m minigrad`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

__all__ = ["main"]

USAGE = """\
minigrad train mlp|cnn [options]   train a network on Fashion-MNIST; --compare none,batch compares normalizations
minigrad check                     show the environment and test the installation in a few seconds
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0 done, 1 a check failed. Wrong usage exits with 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="minigrad", usage=USAGE, add_help=False)
    parser.add_argument("command", choices=("train", "check"), nargs="?")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    known, _rest = parser.parse_known_args(given[:1])
    if known.version:
        import minigrad

        print(f"minigrad {minigrad.__version__}")
    elif known.command is None:
        print(USAGE, end="")
    elif known.command == "check":
        if given[1:]:
            parser.error(f"check takes no arguments, got {' '.join(given[1:])}")
        return check()
    else:
        train(given[1:], parser)
    return 0


def train(arguments: list[str], parser: argparse.ArgumentParser) -> None:
    """Hand over to the trainer, whose own options follow the network's name."""
    from minigrad.examples import compare_batchnorm, train_cnn, train_mlp

    single = {"mlp": train_mlp, "cnn": train_cnn}
    if not arguments or arguments[0] not in single:
        got = arguments[0] if arguments else "nothing"
        parser.error(f"train needs a network, {' or '.join(sorted(single))}; got {got}")
    sys.argv[0] = f"minigrad train {arguments[0]}"  # what the trainer's own help calls itself
    if any(argument.split("=")[0] == "--compare" for argument in arguments):
        compare_batchnorm.main(arguments)
    else:
        single[arguments[0]].main(arguments[1:])


def check() -> int:
    """Print the environment, run the self test, and say what failed."""
    from minigrad.run import describe_environment
    from minigrad.selftest import parts

    for name, value in describe_environment().items():
        print(f"{name}: {value}")
    print()
    failed = 0
    for name, part in parts():
        started = time.perf_counter()
        try:
            said, mark = part(), "ok    "
        except Exception as error:  # noqa: BLE001 - every part is to be tried, and its failure shown
            said, mark = f"{type(error).__name__}: {error}", "FAILED"
            failed += 1
        print(f"{mark} {name} ({time.perf_counter() - started:.1f} s): {said}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
