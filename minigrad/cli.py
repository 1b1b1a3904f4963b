"""The command `minigrad`: train, draw, report, download, or check the installation. Also `python -m minigrad`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minigrad.errors import MinigradError

__all__ = ["main"]

USAGE = """\
minigrad train mlp|cnn|resnet [options]   train a network; --compare none,batch compares normalizations fairly,
                                          --compare lr=0.1,0.3 any options side by side, --resume RUN goes on
minigrad graph mlp|cnn|SCRIPT.py:function|RUN|DUMP.json [options] [-o FILE]
                                          draw a computation graph: svg, png, pdf, dot, json, html or text
minigrad graph diff A B [-o FILE]         compare two graphs
minigrad summary mlp|cnn [options]        layers with shapes, parameters, bytes held for backward, times
minigrad profile mlp|cnn|resnet [options] where the time of training steps goes, by operation; --steps N
minigrad report RUN… [--out FILE]         put runs side by side in one page
minigrad data NAME FOLDER                 download fashion-mnist, mnist or cifar10 into a folder
minigrad train mlp --help                 show the options; with --compare none,batch those of the comparison
minigrad check                            show the environment and test the installation in a few seconds
minigrad --version
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0 done, 1 it failed, 3 diverged, 130 interrupted. Wrong usage exits
    with 2.
    """
    try:
        return run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:  # a trainer says more: how to go on
        print("minigrad: interrupted", file=sys.stderr)
        return 130


def run(given: list[str]) -> int:
    """Choose the command."""
    command, rest = (given[0], given[1:]) if given else ("--help", [])
    parser = argparse.ArgumentParser("minigrad", usage=f"\n{USAGE}", add_help=False)
    commands = {"train": train, "graph": graph, "summary": summary, "profile": profile,
                "report": report, "data": data, "check": check}
    if command in ("-h", "--help") or (command in ("train", "check") and rest[:1] in (["-h"], ["--help"])):
        print(USAGE, end="")
    elif command == "--version":
        import minigrad

        print(f"minigrad {minigrad.__version__}")
    elif command in commands:
        return commands[command](rest, parser)
    else:
        parser.error(f"no command {command!r}; there are {', '.join(commands)}")
    return 0


def _trainer(command: str, arguments: list[str], parser: argparse.ArgumentParser) -> Any:
    """The module of the trainer that the first argument names."""
    from minigrad.examples import train_cnn, train_mlp, train_resnet

    single = {"mlp": train_mlp, "cnn": train_cnn, "resnet": train_resnet}
    if not arguments or arguments[0] not in single:
        got = arguments[0] if arguments else "nothing"
        parser.error(f"{command} needs a network, {', '.join(sorted(single))}; got {got}")
    return single[arguments[0]]


def train(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Hand over to the trainer, whose own options follow the network's name; its errors become one line."""
    from minigrad.examples import compare_batchnorm, compare_options

    single = _trainer("train", arguments, parser)
    pairs = zip(arguments, [*arguments[1:], ""])
    compared = [following for argument, following in pairs if argument == "--compare"]
    compared += [argument.removeprefix("--compare=") for argument in arguments if argument.startswith("--compare=")]
    if any("=" in text for text in compared):
        return compare_options.main(arguments, "minigrad train")
    if compared:
        return compare_batchnorm.main(arguments, "minigrad train")
    return int(single.main(arguments[1:], f"minigrad train {arguments[0]}"))


def profile(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Print where the time of a trainer's steps goes."""
    trainer = _trainer("profile", arguments, parser).TRAINER
    from minigrad.profiling import profile_command

    try:
        print(profile_command(arguments[1:], trainer))
    except (MinigradError, OSError) as error:
        print(f"minigrad profile: error: {error}", file=sys.stderr)
        return 1
    return 0


def report(arguments: list[str], _parser: argparse.ArgumentParser) -> int:
    """Write one page about runs."""
    from minigrad.run.comparison import report_on, results_of

    parser = argparse.ArgumentParser(prog="minigrad report", description="Put runs side by side in one page.")
    parser.add_argument("runs", nargs="+", metavar="RUN", type=Path,
                        help="run directories, or folders of them; files beside them are passed over")
    parser.add_argument("--out", type=Path, metavar="FILE",
                        help="the page (default: report.html in what is named, or in the folder that holds all)")
    parser.add_argument("--title", default="")
    given = parser.parse_args(arguments)
    runs: list[Path] = []
    for path in given.runs:
        single = (path / "config.json").is_file()
        found = [path] if single else sorted(each.parent for each in path.glob("*/config.json"))
        if not found and not path.is_file():  # a shell's * finds earlier reports, too
            parser.error(f"{str(path)!r} is no run: it holds no config.json, nor does a folder in it")
        runs += found
    if not runs:
        parser.error("there is no run among what is named")
    first = given.runs[0]
    target = given.out or (first if len(given.runs) == 1 else first.resolve().parent) / "report.html"
    try:
        written = report_on(runs, target, given.title)
        print(f"{results_of(runs).text()}\n\nreport: {written}")
    except (MinigradError, OSError) as error:
        print(f"minigrad report: error: {error}", file=sys.stderr)
        return 1
    return 0


def data(arguments: list[str], _parser: argparse.ArgumentParser) -> int:
    """Download a data set."""
    from minigrad.data.download import SETS, download

    parser = argparse.ArgumentParser(prog="minigrad data", description="Download a data set into a folder; what has "
                                     "arrived is kept if the connection breaks, and checked by its SHA-256.")
    parser.add_argument("name", choices=sorted(SETS))
    parser.add_argument("folder", type=Path, help="made if missing; trainers find it with --data or $MINIGRAD_DATA")
    given = parser.parse_args(arguments)
    try:
        place = download(given.name, given.folder, say=lambda line: print(line, flush=True))
    except (MinigradError, OSError) as error:
        print(f"minigrad data: error: {error}", file=sys.stderr)
        return 1
    print(f"ready: --dataset {given.name} --data {place.parent}")
    return 0


def graph(arguments: list[str], _parser: argparse.ArgumentParser) -> int:
    """Draw a computation graph, or compare two."""
    from minigrad import graph_commands

    return graph_commands.graph(arguments)


def summary(arguments: list[str], _parser: argparse.ArgumentParser) -> int:
    """Print the table of a network's layers."""
    from minigrad import graph_commands

    return graph_commands.summary(arguments)


def check(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Print the environment, run the self test, and say what failed."""
    if arguments:
        parser.error(f"check takes no arguments, got {' '.join(arguments)}")
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
