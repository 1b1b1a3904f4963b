"""Train the network of Figure 1 of the BatchNorm paper on Fashion-MNIST, with or without normalization.

784-100-100-100-10, sigmoid, batches of 60, plain SGD, weights from small Gaussians (Ioffe & Szegedy, arXiv:1502.03167,
section 4.1; the paper used MNIST). Run it:

    python examples/train_mlp.py --norm batch
    python examples/train_mlp.py --norm none --lr 1.0
    python examples/train_mlp.py --resume runs/… --epochs 12
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from typing import Any

import minigrad
import minigrad.functional as F
from minigrad import Tensor, layers, optim
from minigrad.data import DataLoader
from minigrad.examples import _setup
from minigrad.examples._precision import Precision
from minigrad.examples._setup import Settings, Split, accuracy, generators, normalization, parts
from minigrad.run import Record

WIDTHS = (100, 100, 100)
DEFAULTS = {"epochs": 6, "batch_size": 60, "lr": 0.3}
GRID = (0.1, 0.3, 1.0, 3.0)


def build(norm: str, seed: int = 0, shape: tuple[int, ...] = (1, 28, 28)) -> layers.Sequential:
    """The network. A bias before BatchNorm would be subtracted again with the mean, so there is none."""
    draws = generators(seed)
    stack: list[layers.Module] = [layers.Flatten()]
    for wide, narrow in itertools.pairwise((math.prod(shape), *WIDTHS)):
        stack += [gaussian(layers.Linear(wide, narrow, bias=norm != "batch"), next(draws)),
                  *normalization(norm, (narrow,)), layers.Sigmoid()]
    return layers.Sequential(*stack, gaussian(layers.Linear(WIDTHS[-1], 10), next(draws)))


def gaussian(linear: layers.Linear, generator: minigrad.Generator) -> layers.Linear:
    """Weights drawn with standard deviation 1/√inputs, biases 0."""
    layers.init.normal_(linear.weight, std=linear.in_features**-0.5, generator=generator)
    if linear.bias is not None:
        layers.init.zeros_(linear.bias)
    return linear


def network(given: Settings, shape: tuple[int, ...]) -> layers.Sequential:
    """The network for images of `shape`."""
    return build(given.norm, given.seed, shape)


def train(given: Settings, data: Split, record: Record | None = None) -> layers.Sequential:
    """Train from scratch, or go on where the record's run was, and return the network."""
    record = record or Record()
    minigrad.manual_seed(given.seed)
    model = network(given, data.shape).to(given.device, given.dtype)
    optimizer = optim.SGD(model.parameters(), lr=given.lr)
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

    record.start(given.epochs, loader, model=model, optimizer=optimizer, ema=ema, scaler=precision.scaler)
    for _ in record.remaining():
        for batch in loader:
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


TRAINER = _setup.Trainer("mlp", parser, train, network)
main = TRAINER.main


if __name__ == "__main__":
    sys.exit(main())
