"""What the trainers share around their loops: options, data, a normalization by name, evaluation, and the record."""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import minigrad
from minigrad import Generator, Tensor, io, layers
from minigrad.backend import as_device
from minigrad.data import DataLoader, Dataset, FashionMNIST, Subset
from minigrad.errors import DeviceError
from minigrad.examples._graphs import draw, report
from minigrad.run import Progress, Run
from minigrad.viz.watch import Watch

NORMS = ("none", "batch", "layer")


class Split(NamedTuple):
    """What to train on and what to test on."""

    train: Dataset
    test: Dataset


def options(description: str, prog: str | None, epochs: object, batch_size: object) -> argparse.ArgumentParser:
    """A parser with the options that all trainers have; the last two say in the help what their defaults are."""
    parser = argparse.ArgumentParser(prog, description=description)
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:N, or auto (default: cpu)")
    parser.add_argument("--seed", type=whole(0), default=0, help="of initial weights and shuffling (default: 0)")
    parser.add_argument("--epochs", type=whole(1), help=f"passes over the training images (default: {epochs})")
    parser.add_argument("--batch-size", type=whole(1), help=f"images in one step (default: {batch_size})")
    parser.add_argument("--limit", type=whole(1), help="use only this many training images")
    parser.add_argument("--full", action="store_true", help="train on all 60,000 images, if they are on this machine")
    parser.add_argument("--out", help="run directory to make (default: runs/<date>-<time>-<name>)")
    parser.add_argument("--graph", action="store_true", help="write the graph of one step, as data and as a page")
    parser.add_argument("--watch", type=whole(1), metavar="N", help="record statistics of every layer every N steps")
    parser.add_argument("--tiny", action="store_true", help="a few seconds only, to see that everything runs")
    return parser


def whole(least: int) -> Callable[[str], int]:
    """What reads a whole number of at least `least`, for argparse."""
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return parse


def rate(text: str) -> float:
    """A learning rate, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def device(text: str) -> str:
    """The name of a device that can be used here, for argparse."""
    try:
        return str(as_device(text))
    except DeviceError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def read(arguments: argparse.Namespace) -> Split:
    """The images, cut to `--limit`; says where they come from."""
    if arguments.tiny:
        arguments.epochs, arguments.limit = 1, 600
    train, test = (FashionMNIST(train=part, full=arguments.full) for part in (True, False))
    print(f"training images: {train.source}", flush=True)
    if arguments.limit:
        return Split(Subset(train, range(min(arguments.limit, len(train)))), test)
    return Split(train, test)


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


def accuracy(model: layers.Module, data: Dataset, device: str = "cpu", batch_size: int = 1000) -> float:
    """The fraction of samples whose largest output is at their class, in evaluation mode."""
    training = model.training
    model.eval()
    right = 0
    with minigrad.no_grad():
        for images, labels in DataLoader(data, batch_size):
            scores = model(images.to(device)).numpy()
            right += int(np.count_nonzero(scores.argmax(1) == labels.numpy()))
    model.train(training)
    return right / len(data)


class Record:
    """What a loop tells of itself: to the run directory and to the screen. `Record()` keeps it to itself.

    Seconds count the training alone: the clock stands still during evaluations.
    """

    def __init__(self, series: str = "", run: Run | None = None, progress: Progress | None = None,
                 every: int = 25, watch: int | None = None) -> None:
        self.series, self.run, self.progress, self.every = series, run, progress, every
        self.watch_every = watch
        self.watch: Watch | None = None
        self.seconds = 0.0
        self.steps = 0
        self._since = time.perf_counter()

    def start(self, epochs: int, steps: int, model: layers.Module) -> None:
        """The loop begins; the model is watched from here on if that was asked for."""
        self.steps = steps
        if self.watch_every:
            self.watch = Watch(model, self.watch_every).__enter__()
        if self.progress:
            self.progress.start(self.series, epochs=epochs, steps=steps)
        self._since = time.perf_counter()

    def step(self, step: int, epoch: int, loss: Tensor, evaluate: Callable[[], float]) -> None:
        """A step was taken; at every `every`-th one and the last, the test accuracy is measured too."""
        if self.watch:
            self.watch.after_step(step)
        if not self.run or not self.progress:
            return
        if step % self.every and step != self.steps:
            if step % 5 == 0:
                self.progress.update(self.series, step=step, epoch=epoch, loss=loss.item())
            return
        value = loss.item()
        self._stop()
        self.run.log(self.series, step, epoch, loss=value, accuracy=evaluate())
        self.run.log_timing(self.series, step, epoch, seconds=self.seconds)
        self.progress.update(self.series, step=step, epoch=epoch, loss=value)
        self._since = time.perf_counter()

    def epoch(self, step: int, epoch: int, loss: Tensor, evaluate: Callable[[], float]) -> None:
        """A pass over the data is done."""
        if not self.progress:
            return
        self._stop()
        self.progress.end_epoch(self.series, step=step, epoch=epoch, loss=loss.item(), accuracy=evaluate())
        self._since = time.perf_counter()

    def finish(self) -> None:
        """The loop is over."""
        if self.watch:
            self.watch.close()
        if self.progress:
            self.progress.finish(self.series)

    def _stop(self) -> None:
        self.seconds += time.perf_counter() - self._since


def launch(name: str, about: str, defaults: dict[str, Any], train: Callable[..., layers.Module],
           build: Callable[[str, int], layers.Module], arguments: list[str] | None, prog: str | None) -> None:
    """Run one trainer from the command line: read the options and the data, train, save, and say what came out."""
    parser = options(about.splitlines()[0], prog, defaults["epochs"], defaults["batch_size"])
    parser.add_argument("--norm", choices=NORMS, default="batch", help="normalization between layers (default: batch)")
    parser.add_argument("--lr", type=rate, help=f"learning rate (default: {defaults['lr']})")
    parser.set_defaults(**defaults)
    given = parser.parse_args(arguments)
    data = read(given)
    with Run(given.out, vars(given), title=f"{name}-{given.norm}") as run, Progress() as progress:
        pictures = draw(build, given.norm, data.train, given, run) if given.graph else []
        record = Record(given.norm, run, progress, every=50, watch=given.watch)
        model = train(given.norm, data, lr=given.lr, epochs=given.epochs, batch_size=given.batch_size,
                      seed=given.seed, device=given.device, record=record)
        io.save(model.state_dict(), run.directory / "model.safetensors")
        reached = accuracy(model, data.test, given.device)
        print(f"{reached:.1%} of {len(data.test):,} test images right, "
              f"{parameters(model):,} parameters, {record.seconds / given.epochs:.2f} s per epoch\n"
              f"weights and metrics are in {run.directory}")
        if given.graph or given.watch:
            path = report(name, run, given.norm, record.steps, reached, record.watch, pictures)
            print(f"report: {path}")
