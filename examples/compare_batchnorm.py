"""Compare a network with and without normalization, fairly, and write a report.

1. Each network's learning rate is chosen from one small grid, by its accuracy on training images held out for that.
2. Each is trained with its own best rate on all training images, from the same seed; where the rates differ, the
   normalized ones are also trained with the baseline's.
3. The table and the report say how many steps each needs to reach the baseline's best test accuracy.

    python examples/compare_batchnorm.py mlp --compare none,batch
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from minigrad import layers
from minigrad.data import random_split
from minigrad.errors import ArgumentError
from minigrad.examples import _setup, train_cnn, train_mlp
from minigrad.examples._graphs import draw, on_first_batch
from minigrad.examples._setup import (
    NORMS,
    Settings,
    Split,
    accuracy,
    dtype_of,
    options,
    parameters,
    rate,
    read,
    try_out,
    whole,
)
from minigrad.run import Chart, Marker, Progress, Record, Reference, Run, Series, Table, write_report
from minigrad.viz.watch import watch_charts

NETWORKS: dict[str, ModuleType] = {"mlp": train_mlp, "cnn": train_cnn}
NAMES = {"none": "no normalization", "batch": "BatchNorm", "layer": "LayerNorm"}


class Outcome(NamedTuple):
    """One training run, summed up; `watched` as `Watch.arrays` gives it."""

    series: str
    lr: float
    accuracy: float
    best: float
    best_step: int
    seconds: float
    parameters: int
    watched: dict[str, np.ndarray]


def held_out(data: Split, seed: int) -> Split:
    """Four fifths of the training images to train on, one fifth to choose by; the test images are not touched."""
    count = len(data.train) // 5
    if not count:
        raise ArgumentError("held_out", got=f"{len(data.train)} training images", wanted="at least 5")
    train, test = random_split(data.train, [len(data.train) - count, count], seed)
    return Split(train, test)


def choose_rate(module: ModuleType, norm: str, data: Split,
                given: argparse.Namespace) -> tuple[float, dict[float, float]]:
    """The rate of the grid with the best accuracy on held-out images, and the accuracy of each."""
    found = {}
    for lr in given.grid:
        model = module.train(Settings.of(given, norm=norm, lr=lr), data)
        found[lr] = accuracy(model, data.test, given.device)
        print(f"  {NAMES[norm]}, learning rate {lr:g}: {found[lr]:.1%} of held-out images", flush=True)
    return max(found, key=found.__getitem__), found


def train_one(module: ModuleType, norm: str, lr: float, data: Split, given: argparse.Namespace, run: Run,
              progress: Progress) -> Outcome:
    """Train one network with everything recorded."""
    series = f"{NAMES[norm]}, lr {lr:g}"
    record = Record(series, run, progress, every=given.every, checkpoints=False, watch=_setup.watching(given))
    model: layers.Module = module.train(Settings.of(given, norm=norm, lr=lr), data, record)
    if record.watch:
        record.watch.save(run.directory / f"watch-{norm}-{lr:g}.npz")
    steps, accuracies = run.curve(series, "accuracy")
    best = max(range(len(steps)), key=lambda i: (accuracies[i], -steps[i]))
    return Outcome(series, lr, float(accuracies[-1]), float(accuracies[best]), int(steps[best]),
                   record.seconds / given.epochs, parameters(model), record.watch.arrays() if record.watch else {})


def reached(run: Run, outcome: Outcome, level: float) -> int | None:
    """The first step at which a run's test accuracy was at least `level`."""
    step = Series(outcome.series, *run.curve(outcome.series, "accuracy")).reaches(level)
    return None if step is None else int(step)


def summary(run: Run, outcomes: list[Outcome]) -> tuple[Table, str]:
    """The table, and the finding in one sentence."""
    baseline = outcomes[0]
    rows, found = [], []
    for each in outcomes:
        step = reached(run, each, baseline.best)
        ratio = None if step is None or each is baseline else f"{baseline.best_step / step:.1f}×"
        rows.append((each.series, f"{each.accuracy:.1%}", f"{each.best:.1%}", step, ratio, f"{each.seconds:.2f} s",
                     each.parameters))
        if each is not baseline:
            found.append(f"{each.series} never reached it" if step is None else
                         f"{each.series} reached it after {step:,} steps ({ratio} fewer)")
    table = Table(("network", "test accuracy at the end", "best", f"steps to {baseline.best:.1%}", "fewer by",
                   "time per epoch", "parameters"), rows)
    return table, (f"{baseline.series[0].upper()}{baseline.series[1:]} reached its best test accuracy, "
                   f"{baseline.best:.1%}, after {baseline.best_step:,} steps; {'; '.join(found)}.")


def charts(run: Run, outcomes: list[Outcome]) -> list[Chart]:
    """Accuracy against steps and seconds, loss against steps."""
    baseline = outcomes[0]

    def all_of(y: str, x: str = "step") -> list[Series]:
        return [Series(each.series, *run.curve(each.series, y, x)) for each in outcomes]

    marks = [Marker(each.series, step, baseline.best, f"{step:,}") for each in outcomes
             if (step := reached(run, each, baseline.best)) is not None]
    level = Reference(baseline.best, f"baseline's best, {baseline.best:.1%}")
    return [
        Chart("Test accuracy", "optimizer steps", "test accuracy", all_of("accuracy"), (level,), marks, percent=True),
        Chart("Training loss", "optimizer steps", "cross-entropy of the batch", all_of("loss"), smooth=5),
        Chart("Test accuracy against time", "seconds of training", "test accuracy", all_of("accuracy", "seconds"),
              (level,), percent=True),
    ]


def notes(given: argparse.Namespace, searched: dict[str, dict[float, float]], baseline: Outcome) -> list[str]:
    """How the comparison was made, for the report."""
    grids = "; ".join(f"{NAMES[norm]}: " + ", ".join(f"{lr:g} gave {a:.1%}" for lr, a in found.items())
                      for norm, found in searched.items())
    return [
        (f"Learning rates were chosen from one grid by accuracy on a fifth of the training images, held out from "
         f"training for that purpose. {grids}."),
        (f"Then every network was trained on all training images for {given.epochs} epochs with batches of "
         f"{given.batch_size}, from seed {given.seed}: the same initial weights where shapes agree, the same order of "
         f"images. Where its own best rate is not the baseline's ({baseline.lr:g}), a normalized network was trained "
         f"with both."),
        (f"Test accuracy was measured every {given.every} steps. Times count training alone, on a machine that may "
         f"have had other work. One seed is an example, not a distribution: try others."),
    ]


def main(arguments: list[str] | None = None, prog: str | None = None) -> int:
    """Run from the command line; returns the exit code."""
    defaults = {name: ", ".join(f"{key} {module.DEFAULTS[name]}" for key, module in NETWORKS.items())
                for name in ("epochs", "batch_size")}
    parser = options(__doc__.splitlines()[0], prog, **defaults)
    parser.add_argument("network", choices=sorted(NETWORKS), nargs="?", default="mlp",
                        help="what to train (default: mlp)")
    parser.add_argument("--compare", type=norms, default=["none", "batch"], metavar="NORM,NORM",
                        help=f"of {', '.join(NORMS)}; the first is the baseline (default: none,batch)")
    grids = "; ".join(f"{key} {', '.join(map(str, module.GRID))}" for key, module in NETWORKS.items())
    parser.add_argument("--grid", type=rates, metavar="LR,LR",
                        help=f"learning rates to choose from (default: {grids})")
    parser.add_argument("--every", type=whole(1), default=25,
                        help="steps between measurements of test accuracy (default: 25)")
    given = parser.parse_args(arguments)
    module = NETWORKS[given.network]
    for name in defaults:
        setattr(given, name, getattr(given, name) or module.DEFAULTS[name])
    given.grid = given.grid or list(module.GRID)
    if given.tiny:
        given.epochs, given.limit = 1, 600

    def work() -> int:
        data = read(given)
        print(f"training images: {data.source}", flush=True)
        for norm in given.compare:
            try_out(module.network, Settings.of(given, norm=norm), held_out(data, given.seed))
        compare(module, data, given)
        return _setup.DONE

    return _setup.ended(work)


def norms(text: str) -> list[str]:
    """Names of normalizations, for argparse."""
    names = text.split(",")
    if len(names) < 2 or len(set(names)) < len(names) or not set(names) <= set(NORMS):
        raise argparse.ArgumentTypeError(f"{text!r} is not two or more different ones of {', '.join(NORMS)}")
    return names


def rates(text: str) -> list[float]:
    """Learning rates, for argparse."""
    return [rate(part) for part in text.split(",")]


def measure(module: ModuleType, data: Split, given: argparse.Namespace,
            run: Run) -> tuple[list[Outcome], dict[str, dict[float, float]]]:
    """Choose every network's rate and train; returns the outcomes, the baseline's first, and what each rate gave."""
    print("choosing learning rates on held-out training images:", flush=True)
    search = held_out(data, given.seed)
    chosen, searched = {}, {}
    for norm in given.compare:
        chosen[norm], searched[norm] = choose_rate(module, norm, search, given)
    baseline = given.compare[0]
    plan = [(baseline, chosen[baseline])]
    for norm in given.compare[1:]:
        plan += [(norm, lr) for lr in dict.fromkeys((chosen[baseline], chosen[norm]))]
    print("training on all training images, measured on the test images:", flush=True)
    with Progress() as progress:
        return [train_one(module, norm, lr, data, given, run, progress) for norm, lr in plan], searched


def compare(module: ModuleType, data: Split, given: argparse.Namespace) -> Path:
    """Measure, print the table and write the report; returns the report's path."""
    # The directory first: one that cannot be written is better refused before all the work than after it.
    with Run(given.out, vars(given), title=f"{given.network}-compare") as run:
        outcomes, searched = measure(module, data, given, run)
        table, finding = summary(run, outcomes)
        watched = [chart for each in outcomes for chart in watch_charts(each.watched, each.series)]
        new = module.build(given.compare[-1], given.seed, data.shape).to(given.device, dtype_of(given.precision))
        pictures = draw(new, on_first_batch(data.train, given), run, f"norm {given.compare[-1]}") if given.graph else []
        report = write_report(run.directory / "report.html", title=f"{given.network.upper()} on {given.dataset}",
                              finding=finding, tables=[table], charts=charts(run, outcomes) + watched,
                              pictures=pictures, notes=notes(given, searched, outcomes[0]), config=run.config,
                              environment=run.environment)
    print(f"\n{table.text()}\n\n{finding}\nreport: {report}")
    return report


if __name__ == "__main__":
    sys.exit(main())
