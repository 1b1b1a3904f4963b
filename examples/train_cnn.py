"""Train a small convolutional network on Fashion-MNIST, with or without normalization.

Three convolutions of 16, 32 and 64 channels, ReLU, each followed by pooling; SGD with momentum and a learning rate that
falls along a half cosine. Run it:

    python examples/train_cnn.py --norm batch
    python examples/train_cnn.py --norm none --epochs 3
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import minigrad
import minigrad.functional as F
from minigrad import Tensor, layers, optim
from minigrad.data import DataLoader
from minigrad.examples import _setup
from minigrad.examples._precision import Precision
from minigrad.examples._setup import Settings, Split, accuracy, generators, normalization, parts
from minigrad.run import Record

CHANNELS = (16, 32, 64)
DEFAULTS = {"epochs": 10, "batch_size": 64, "lr": 0.1}
GRID = (0.01, 0.03, 0.1, 0.3)


def build(norm: str, seed: int = 0, shape: tuple[int, ...] = (1, 28, 28)) -> layers.Sequential:
    """The network: 28×28 images shrink to 14×14, 7×7 and 3×3."""
    draws = generators(seed)
    stack: list[layers.Module] = []
    side = shape[1]
    for before, after in itertools.pairwise((shape[0], *CHANNELS)):
        stack += [layers.Conv2d(before, after, 3, padding=1, bias=norm != "batch", generator=next(draws)),
                  *normalization(norm, (after, side, side)), layers.ReLU(), layers.MaxPool2d(2)]
        side //= 2
    return layers.Sequential(*stack, layers.Flatten(),
                             layers.Linear(CHANNELS[-1] * side * side, 10, generator=next(draws)))


def network(given: Settings, shape: tuple[int, ...]) -> layers.Sequential:
    """The network for images of `shape`."""
    return build(given.norm, given.seed, shape)


def train(given: Settings, data: Split, record: Record | None = None,
          build_for: Callable[[Settings, tuple[int, ...]], layers.Module] = network) -> layers.Module:
    """Train from scratch, or go on where the record's run was, and return the network.

    `build_for` makes it, from the settings and the shape of the images.
    """
    record = record or Record()
    minigrad.manual_seed(given.seed)
    model = build_for(given, data.shape).to(given.device, given.dtype)
    optimizer = optim.SGD(optim.parameter_groups(model, weight_decay=5e-4), lr=given.lr, momentum=0.9, nesterov=True)
    loader = DataLoader(data.train, given.batch_size, shuffle=True, seed=given.seed, drop_last=True,
                        workers=given.workers, device=given.device)
    ema = optim.EMA(model, given.ema) if given.ema else None
    precision = Precision(given.precision, model, optimizer)

    def gradients(images: Tensor, labels: Tensor) -> Any:
        optimizer.zero_grad()
        losses = []
        for x, y, share in parts(images, labels, given.accumulate):
            with precision.forward():
                scores = model(x.to(given.device, given.dtype))
                loss = F.cross_entropy(scores, y.to(given.device), label_smoothing=given.label_smoothing) * share
            precision.backward(loss)
            losses.append(loss.detach())
        return sum(losses)

    def evaluate() -> float:
        return accuracy(model, data.watched, given.device, ema)

    steps = given.epochs * len(loader)
    record.start(given.epochs, loader, model=model, optimizer=optimizer, ema=ema, scaler=precision.scaler)
    for _ in record.remaining():
        for batch in loader:
            for group in optimizer.param_groups:
                group["lr"] = given.lr * (1 + math.cos(math.pi * record.steps / steps)) / 2
            loss = gradients(*batch)
            if precision.ready():
                record.check(loss, gradients, *batch)
                if given.clip:
                    optim.clip_grad_norm_(model.parameters(), given.clip)
                precision.step()
                if ema:
                    ema.update()
            record.step(loss, evaluate)
        if record.epoch(evaluate):
            break
    record.finish()
    if ema:
        ema.apply()
    return model


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The options of the command line."""
    return _setup.trainer_options(__doc__, prog, DEFAULTS)


TRAINER = _setup.Trainer("cnn", parser, train, network)
main = TRAINER.main


if __name__ == "__main__":
    sys.exit(main())
