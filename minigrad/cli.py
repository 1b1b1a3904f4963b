"""The command `minigrad`: train a network, draw its graph, or check the installation. Also `python -m minigrad`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

__all__ = ["main"]

USAGE = """\
minigrad train mlp|cnn [options]   train a network on Fashion-MNIST; --compare none,batch compares normalizations
minigrad train mlp --help          show the options; with --compare none,batch those of the comparison
minigrad graph mlp|cnn|SCRIPT.py:function|RUN|DUMP.json [options] [-o FILE]
                                   draw a computation graph: svg, png, pdf, dot, json, html or text
minigrad graph diff A B [-o FILE]  compare two graphs
minigrad summary mlp|cnn [options] layers with shapes, parameters, bytes held for backward, times
minigrad check                     show the environment and test the installation in a few seconds
minigrad --version
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0 done, 1 it failed, 130 interrupted. Wrong usage exits with 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command, rest = (given[0], given[1:]) if given else ("--help", [])
    parser = argparse.ArgumentParser("minigrad", usage=f"\n{USAGE}", add_help=False)
    if command in ("-h", "--help") or rest[:1] in (["-h"], ["--help"]):
        print(USAGE, end="")
    elif command == "--version":
        import minigrad

        print(f"minigrad {minigrad.__version__}")
    elif command == "train":
        return train(rest, parser)
    elif command == "check":
        if rest:
            parser.error(f"check takes no arguments, got {' '.join(rest)}")
        return check()
    elif command in ("graph", "summary"):
        from minigrad import graph_commands

        return graph_commands.graph(rest) if command == "graph" else graph_commands.summary(rest)
    else:
        parser.error(f"no command {command!r}; there are train, graph, summary and check")
    return 0


def train(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Hand over to the trainer, whose own options follow the network's name; its errors become one line."""
    from minigrad.errors import MinigradError
    from minigrad.examples import compare_batchnorm, train_cnn, train_mlp

    single = {"mlp": train_mlp, "cnn": train_cnn}
    if not arguments or arguments[0] not in single:
        got = arguments[0] if arguments else "nothing"
        parser.error(f"train needs a network, {' or '.join(sorted(single))}; got {got}")
    try:
        if any(argument.split("=")[0] == "--compare" for argument in arguments):
            compare_batchnorm.main(arguments, "minigrad train")
        else:
            single[arguments[0]].main(arguments[1:], f"minigrad train {arguments[0]}")
    except KeyboardInterrupt:
        print("minigrad train: interrupted", file=sys.stderr)
        return 130
    except (MinigradError, OSError) as error:
        print(f"minigrad train: error: {error}", file=sys.stderr)
        return 1
    return 0


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
