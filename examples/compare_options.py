"""Train one network with each of several values of any options, and put the runs side by side in one report.

Every combination is trained from the same seed, in a run directory of its own that can be resumed like any other.

    python examples/compare_options.py mlp --compare lr=0.1,0.3,1 --compare norm=none,batch
    python examples/compare_options.py resnet --compare zero-init-residual=no,yes --epochs 3
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

from minigrad.examples import train_cnn, train_mlp, train_resnet
from minigrad.examples._setup import DIVERGED, DONE, Trainer, ended
from minigrad.run.comparison import report_on, results_of
from minigrad.run.directory import make_directory

TRAINERS: dict[str, Trainer] = {each.name: each for each in (train_mlp.TRAINER, train_cnn.TRAINER,
                                                             train_resnet.TRAINER)}
Choice = tuple[str, list[str]]


def choice(text: str) -> Choice:
    """An option's name with its values, for argparse."""
    name, _, values = text.partition("=")
    found = values.split(",")
    if len(found) < 2 or len(set(found)) < len(found) or not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not OPTION=VALUE,VALUE with two or more different values")
    return name.strip("-").replace("_", "-"), found


def combinations(choices: list[Choice]) -> list[tuple[str, list[str]]]:
    """A label and the arguments of every combination; a switch is given for 'yes' and left out for 'no'."""
    found = []
    for values in itertools.product(*(values for _, values in choices)):
        pairs = list(zip((name for name, _ in choices), values))
        arguments = [part for name, value in pairs
                     for part in ([f"--{name}"] if value == "yes" else [] if value == "no" else [f"--{name}", value])]
        found.append((",".join(f"{name}={value}" for name, value in pairs), arguments))
    return found


def main(arguments: list[str] | None = None, prog: str | None = None) -> int:
    """Run from the command line; returns the exit code: that of the worst run, a divergence being a result."""
    parser = argparse.ArgumentParser(prog, description=__doc__.splitlines()[0],
                                     epilog="All other options are the trainer's: see minigrad train NETWORK --help.")
    parser.add_argument("network", choices=sorted(TRAINERS), nargs="?", default="mlp", help="what to train")
    parser.add_argument("--compare", type=choice, action="append", metavar="OPTION=VALUE,VALUE",
                        help="may be given several times: then every combination is trained")
    parser.add_argument("--out", metavar="FOLDER", help="to make; default: runs/<date>-<time>-<network>-compare")
    given, others = parser.parse_known_args(arguments)
    choices = given.compare or [("norm", ["none", "batch"])]
    names = [name for name, _ in choices]
    if len(set(names)) < len(names) or {"out", "resume"} & set(names):
        parser.error(f"--compare: got {', '.join(names)}; wanted different options of the trainer")
    trainer, plan = TRAINERS[given.network], combinations(choices)

    def work() -> int:
        for _, own in plan:  # what is wrong is said before anything is trained
            trainer.ready([*others, *own], f"{parser.prog} {given.network}")
        return train_all(trainer, plan, others, make_directory(given.out, f"{given.network}-compare"))

    return ended(work)


def train_all(trainer: Trainer, plan: list[tuple[str, list[str]]], others: list[str], folder: Path) -> int:
    """Train every combination, print the table and write the report."""
    runs: list[Path] = []
    for label, own in plan:
        print(f"\n{label}", flush=True)
        run = folder / label.replace("/", "_")
        status = trainer.main([*others, *own, "--out", str(run)])
        if status not in (DONE, DIVERGED):
            print(f"{len(runs)} of {len(plan)} runs are complete; side by side: minigrad report {folder}/*")
            return status
        runs.append(run)
    report = report_on(runs, folder / "report.html")
    print(f"\n{results_of(runs).text()}\n\nreport: {report}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
