"""What the trainers share around their loops: options, data, a normalization by name, evaluation, start and end."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minigrad
from minigrad import Generator, Tensor, io, layers, optim
from minigrad.backend import as_device
from minigrad.data import CIFAR10, MNIST, DataLoader, Dataset, FashionMNIST, Subset, random_split
from minigrad.errors import ArgumentError, DeviceError, DivergedError, MinigradError, StateError
from minigrad.examples._graphs import draw, on_first_batch
from minigrad.run import Progress, Record, Run
from minigrad.run.comparison import report_on
from minigrad.run.directory import read_config
from minigrad.viz.watch import Watch

NORMS = ("none", "batch", "layer")
DATASETS = ("auto", "fashion-mnist", "mnist", "cifar10")
DONE, FAILED, USAGE, DIVERGED, INTERRUPTED = 0, 1, 2, 3, 130

#: Settings that a run which is resumed may be given anew: how long and where, but nothing that earlier steps hang on.
CHANGEABLE = {"epochs", "patience", "workers", "checkpoint_every", "resume", "out", "device"}


class Split(NamedTuple):
    """What to train on, what to test on, training images held out to choose by, if there are any, and in words where
    they come from.
    """

    train: Dataset
    test: Dataset
    held_out: Dataset | None = None
    source: str = ""

    @property
    def watched(self) -> Dataset:
        """What the accuracy is measured on along the way."""
        return self.test if self.held_out is None else self.held_out

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image: channels, height, width."""
        return tuple(self.train.batch([0])[0].shape[1:])


@dataclass(frozen=True)
class Settings:
    """What a loop needs to know; the options of the command line with these names."""

    norm: str = "batch"
    lr: float = 0.1
    epochs: int = 1
    batch_size: int = 64
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"
    accumulate: int = 1
    clip: float | None = None
    label_smoothing: float = 0.0
    ema: float | None = None
    workers: int = 0
    depth: int = 8
    augment: bool = False
    zero_init_residual: bool = False

    @classmethod
    def of(cls, given: argparse.Namespace, **others: Any) -> Settings:
        """Those of `given` that a loop needs; `others` take precedence."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in vars(given).items() if name in known} | others)


def options(description: str, prog: str | None, epochs: object, batch_size: object,
            dataset: str = "fashion-mnist") -> argparse.ArgumentParser:
    """A parser with the options that all trainers have; the last three say in the help what their defaults are."""
    parser = argparse.ArgumentParser(prog, description=description,
                                     epilog="Exit codes: 0 done, 1 failed (one line says why), 2 wrong usage, 3 the "
                                            "numbers diverged. With one seed, on one machine, the CPU gives the same "
                                            "metrics byte for byte.")
    add = parser.add_argument_group("training").add_argument
    add("--device", type=device, default="cpu", help="cpu, cuda, cuda:N, or auto (default: cpu)")
    add("--precision", type=precision, default="float32", help="float32 or float64 (default: float32)")
    add("--seed", type=whole(0), default=0, help="of initial weights, shuffling and augmentation (default: 0)")
    add("--epochs", type=whole(1), help=f"passes over the training images (default: {epochs})")
    add("--batch-size", type=whole(1), help=f"images in one step (default: {batch_size})")
    add("--accumulate", type=whole(1), default=1, metavar="K", help="compute each step's gradient in K parts")
    add("--clip", type=rate, metavar="NORM", help="scale gradients down to this norm, all taken together")
    add("--label-smoothing", type=share, default=0.0, metavar="S", help="share of each target given to all classes")
    add("--ema", type=share, metavar="DECAY", help="measure and save averaged weights and buffers, as with 0.999")
    add = parser.add_argument_group("data").add_argument
    add("--dataset", choices=DATASETS, default=dataset,
        help=f"what to train on; auto: CIFAR-10 if it is found, else Fashion-MNIST (default: {dataset})")
    add("--data", metavar="FOLDER", help="where the full data set is (default: $MINIGRAD_DATA, or Debian's package)")
    add("--full", action="store_true", help="train on all 60,000 images, if they are on this machine")
    add("--limit", type=whole(1), help="use only this many training images")
    add("--held-out", type=share, default=0.0, metavar="SHARE", help="of the training images, to choose by")
    add("--workers", type=whole(0), default=0, help="threads that prepare batches; the result is the same")
    add("--tiny", action="store_true", help="a few seconds only, to see that everything runs")
    add = parser.add_argument_group("run").add_argument
    add("--out", metavar="RUN", help="run directory to make (default: runs/<date>-<time>-<name>)")
    add("--graph", action="store_true", help="write the graph of one step, as data and as a page")
    add("--watch", type=whole(1), metavar="N", help="record statistics of every layer every N steps")
    return parser


def trainer_options(about: str, prog: str | None, defaults: dict[str, Any]) -> argparse.ArgumentParser:
    """A parser with the options of a trainer of one network."""
    parser = options(about.splitlines()[0], prog, defaults["epochs"], defaults["batch_size"],
                     defaults.get("dataset", "fashion-mnist"))
    add = parser.add_argument_group("one network").add_argument
    add("--norm", choices=NORMS, default="batch", help="normalization between layers (default: batch)")
    add("--lr", type=rate, help=f"learning rate (default: {defaults['lr']})")
    add("--resume", metavar="RUN", help="go on with this run, or from one of its checkpoints")
    add("--every", type=whole(1), default=50, help="steps between measurements of the accuracy (default: 50)")
    add("--checkpoint-every", type=whole(1), metavar="STEPS", help="besides the end of each epoch")
    add("--patience", type=whole(1), metavar="EPOCHS", help="stop after so many without a better accuracy; holds out "
                                                            "a tenth of the training images unless --held-out is given")
    add("--tensorboard", action="store_true", help="write event files too (needs tensorboardX)")
    parser.set_defaults(**defaults)
    return parser


def whole(least: int) -> Callable[[str], int]:
    """What reads a whole number of at least `least`, for argparse."""
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return parse


def rate(text: str) -> float:
    """A number above 0, such as a learning rate, for argparse."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def share(text: str) -> float:
    """A number from 0 to below 1, for argparse."""
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to below 1")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def device(text: str) -> str:
    """The name of a device that can be used here, for argparse. Of one that cannot, a line says what is missing."""
    try:
        return str(as_device(text))
    except DeviceError as error:
        if not text.startswith("cuda"):
            raise argparse.ArgumentTypeError(str(error)) from None
        print(f"minigrad: --device {text}: {error}", file=sys.stderr)  # no usage: it was right
        raise SystemExit(USAGE) from None


def precision(text: str) -> str:
    """The dtype of weights and activations, for argparse."""
    if text not in ("float32", "float64"):
        mixed = "layers compute in one precision in this version; " if text == "mixed" else ""
        raise argparse.ArgumentTypeError(f"{text!r}: {mixed}wanted float32 or float64")
    return text


def parse(parser: argparse.ArgumentParser, trainer: str, arguments: list[str] | None) -> argparse.Namespace:
    """Read the options; those of a run that is resumed come from its directory."""
    given = parser.parse_args(arguments)
    if given.resume:
        try:
            saved = read_config(run_of(given.resume))
        except (FileNotFoundError, StateError) as error:
            parser.error(str(error))
        if saved.get("trainer") != trainer:
            parser.error(f"--resume: {given.resume} is a run of {saved.get('trainer')}, not of {trainer}")
        parser.set_defaults(**{name: value for name, value in saved.items() if name in vars(given)})
        given = parser.parse_args(arguments)
        other = sorted(name for name in saved if getattr(given, name, saved[name]) != saved[name])
        refused = [f"--{name.replace('_', '-')}" for name in other if name not in CHANGEABLE]
        if refused or given.out:
            parser.error(f"--resume: a run keeps its settings; it is not to be given {', '.join(refused) or '--out'}")
        given.changes = {name: getattr(given, name) for name in other}
    else:
        given.changes = {}
        if given.tiny:
            given.epochs, given.limit = 1, 600
        if given.patience and not given.held_out:
            given.held_out = 0.1
    return given


def run_of(path: str) -> Path:
    """The run directory, for itself or one of its checkpoints."""
    place = Path(path)
    return place.parent.parent if place.parent.name == "checkpoints" else place


def read(given: argparse.Namespace) -> Split:
    """The images, cut to `--limit`."""
    if given.dataset == "auto":
        given.dataset = "cifar10" if CIFAR10.found(_folder(given)) else "fashion-mnist"
    train, test = (_read(given.dataset, part, _folder(given), given.full) for part in (True, False))
    source: str = train.source.replace(str(Path.home()), "~")  # type: ignore[attr-defined]
    if given.limit:
        train = Subset(train, range(min(given.limit, len(train))))
    if not given.held_out:
        return Split(train, test, source=source)
    count = max(1, round(len(train) * given.held_out))
    if count == len(train):
        raise ArgumentError("--held-out", got=f"{given.held_out} of {count} images", wanted="some left to train on")
    kept, held_out = random_split(train, [len(train) - count, count], given.seed)
    return Split(kept, test, held_out, source)


def _folder(given: argparse.Namespace) -> Path | None:
    return None if given.data is None else Path(given.data).expanduser()


def _read(name: str, train: bool, folder: Path | None, full: bool) -> Dataset:
    if name == "fashion-mnist":
        return FashionMNIST(train, full=full, folder=folder)
    return (MNIST if name == "mnist" else CIFAR10)(train, folder=folder)


def generators(seed: int) -> Iterator[Generator]:
    """One for each layer: networks of one seed start from the same weights, whichever layers have a bias too."""
    return (Generator(1000 * seed + place) for place in itertools.count())


def normalization(norm: str, shape: tuple[int, ...]) -> list[layers.Module]:
    """The layers that normalize activations of `shape` (without the batch axis): none or one."""
    if norm == "none":
        return []
    if norm == "layer":
        return [layers.LayerNorm(shape)]
    return [layers.BatchNorm1d(shape[0]) if len(shape) == 1 else layers.BatchNorm2d(shape[0])]


def parameters(model: layers.Module) -> int:
    """How many numbers are trained."""
    return sum(p.size for p in model.parameters())


def parts(images: Tensor, labels: Tensor, count: int) -> Iterator[tuple[Tensor, Tensor, float]]:
    """A batch in `count` parts, each with its share of the batch: what the gradient's sum is made of."""
    if count == 1:
        yield images, labels, 1.0
        return
    for index in np.array_split(np.arange(len(images)), min(count, len(images))):
        cut = slice(int(index[0]), int(index[-1]) + 1)
        yield images[cut], labels[cut], len(index) / len(images)


def accuracy(model: layers.Module, data: Dataset, device: str = "cpu", ema: optim.EMA | None = None,
             batch_size: int = 250) -> float:
    """The fraction of samples whose largest output is at their class, in evaluation mode; of averaged weights if any.

    Images get the dtype of the model.
    """
    dtype, training = next(model.parameters()).dtype, model.training
    model.eval()
    right = 0
    with minigrad.no_grad(), contextlib.nullcontext() if ema is None else ema.applied():
        for images, labels in DataLoader(data, batch_size):
            scores = model(images.to(device, dtype)).numpy()
            right += int(np.count_nonzero(scores.argmax(1) == labels.numpy()))
    model.train(training)
    return right / len(data)


@dataclass(frozen=True)
class Trainer:
    """What the command line runs: the name of a trainer and the functions of its file.

    `network` makes the network for images of a shape; `prepare` changes the images before anything else.
    """

    name: str
    parser: Callable[[str | None], argparse.ArgumentParser]
    train: Callable[[Settings, Split, Record | None], layers.Module]
    network: Callable[[Settings, tuple[int, ...]], layers.Module]
    prepare: Callable[[Split, Settings], Split] = lambda data, given: data

    def ready(self, arguments: list[str] | None, prog: str | None = None) -> tuple[argparse.Namespace, Split]:
        """Options and images. Whatever is wrong with them is said here, before a directory is made."""
        given = parse(self.parser(prog), self.name, arguments)
        data = read(given)
        settings = Settings.of(given)
        data = self.prepare(data, settings)
        if not given.resume:
            try_out(self.network, settings, data)
        return given, data

    def main(self, arguments: list[str] | None = None, prog: str | None = None) -> int:
        """Run from the command line: options, data, training, report. Returns the exit code."""
        run: Run | None = None

        def work() -> int:
            nonlocal run
            given, data = self.ready(arguments, prog)
            print(f"training images: {data.source}", flush=True)
            settings = Settings.of(given)
            run = open_run(self.name, given, data)
            # What is not finite ends the run with a better text than NumPy's warnings have.
            with run, Progress() as progress, np.errstate(all="ignore"):
                if given.graph and not (run.directory / "graph_train.json").exists():
                    new = self.network(settings, data.shape).to(given.device, given.precision)
                    draw(new, on_first_batch(data.train, given), run, f"{self.name}, norm {given.norm}")
                record = Record(given.norm, run, progress, every=given.every, checkpoint_every=given.checkpoint_every,
                                patience=given.patience, watch=watching(given))
                model = self.train(settings, data, record)
                finish(run, record, model, data, given)
            return DONE

        return ended(work, lambda: run)


def try_out(network: Callable[[Settings, tuple[int, ...]], layers.Module], given: Settings, data: Split) -> None:
    """Let a network see the smallest part of a batch: what cannot be trained is better refused now than later."""
    images, labels = next(iter(DataLoader(data.train, given.batch_size, drop_last=True)))
    *_, (part, _, _) = parts(images, labels, given.accumulate)
    with minigrad.no_grad():
        network(given, data.shape).to(given.device, given.precision)(part.to(given.device, given.precision))


def watching(given: argparse.Namespace) -> Callable[[layers.Module], Watch] | None:
    """What `Record` watches a model by, if `--watch` asks for it."""
    every = getattr(given, "watch", None)
    return None if every is None else lambda model: Watch(model, every).__enter__()


def ended(work: Callable[[], int], current: Callable[[], Run | None] = lambda: None) -> int:
    """Do the work; whatever ends it becomes an exit code and, if it is an error, one line."""
    try:
        return work()
    except DivergedError as error:
        run, code, said = current(), DIVERGED, f"diverged: {error}"
        if run is not None:
            run.finish("diverged", message=str(error))
    except (MinigradError, OSError) as error:
        code, said = FAILED, f"error: {error}"
    except KeyboardInterrupt:
        run = current()
        code, said = INTERRUPTED, "interrupted" + ("" if run is None else f"; go on with --resume {run.directory}")
    print(f"minigrad train: {said}", file=sys.stderr)
    return code


def open_run(name: str, given: argparse.Namespace, data: Split) -> Run:
    """The directory of a new run, or of the one that is resumed."""
    if given.resume:
        return Run.open(given.resume, changes=given.changes)
    options = {key: value for key, value in vars(given).items() if key not in ("out", "resume", "changes")}
    return Run(given.out, {"trainer": name, "images": data.source} | options, title=f"{name}-{given.norm}",
               tensorboard=given.tensorboard)


def finish(run: Run, record: Record, model: layers.Module, data: Split, given: argparse.Namespace) -> None:
    """Save the weights, write result and report, and say what came out."""
    io.save(model.state_dict(), run.directory / "model.safetensors")
    if record.watch is not None:
        record.watch.save(run.directory / "watch.npz")
    known = data.held_out is None and record.measured == record.steps
    final = record.accuracy if known else accuracy(model, data.test, given.device)
    status = "stopped early" if record.stopped_early else "done"
    run.finish(status, steps=record.steps, epochs=record.epochs, test_accuracy=final, best=record.best,
               best_step=record.best_step, parameters=parameters(model))
    report_on([run.directory], run.directory / "report.html")
    best = "" if record.best is None or record.best_step is None else (
        f"best: {record.best:.1%} of {len(data.watched):,} {'test' if data.held_out is None else 'held-out'} images at "
        f"step {record.best_step:,}, {run.checkpoint(record.best_step)}\n")
    print(f"{final:.1%} of {len(data.test):,} test images right, {parameters(model):,} parameters, "
          f"{record.seconds / max(1, record.epochs):.2f} s per epoch\n{best}"
          f"weights, metrics and report.html are in {run.directory}")
