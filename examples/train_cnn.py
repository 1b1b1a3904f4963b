"""Train a small convolutional network on Fashion-MNIST, with or without normalization.

Three convolutions of 16, 32 and 64 channels, ReLU, each followed by pooling; SGD with momentum and a learning rate that
falls along a half cosine. Run it:

    python examples/train_cnn.py --norm batch
    python examples/train_cnn.py --norm none --epochs 3
"""

from __future__ import annotations

import itertools
import math

import minigrad
import minigrad.functional as F
from minigrad import layers, optim
from minigrad.data import DataLoader
from minigrad.examples._setup import Record, Split, accuracy, generators, launch, normalization

CHANNELS = (1, 16, 32, 64)
DEFAULTS = {"epochs": 10, "batch_size": 64, "lr": 0.1}
GRID = (0.01, 0.03, 0.1, 0.3)


def build(norm: str, seed: int = 0) -> layers.Sequential:
    """The network: 28×28 images shrink to 14×14, 7×7 and 3×3."""
    draws = generators(seed)
    stack: list[layers.Module] = []
    side = 28
    for before, after in itertools.pairwise(CHANNELS):
        stack += [layers.Conv2d(before, after, 3, padding=1, bias=norm != "batch", generator=next(draws)),
                  *normalization(norm, (after, side, side)), layers.ReLU(), layers.MaxPool2d(2)]
        side //= 2
    return layers.Sequential(*stack, layers.Flatten(),
                             layers.Linear(CHANNELS[-1] * side * side, 10, generator=next(draws)))


def train(norm: str, data: Split, *, lr: float, epochs: int, batch_size: int, seed: int, device: str = "cpu",
          record: Record | None = None) -> layers.Sequential:
    """Train from scratch and return the network."""
    record = record or Record()
    minigrad.manual_seed(seed)
    model = build(norm, seed).to(device)
    optimizer = optim.SGD(optim.parameter_groups(model, weight_decay=5e-4), lr=lr, momentum=0.9, nesterov=True)
    loader = DataLoader(data.train, batch_size, shuffle=True, seed=seed, drop_last=True)
    steps = epochs * len(loader)
    record.start(epochs, steps, model)
    step = 0
    for epoch in range(1, epochs + 1):
        for images, labels in loader:
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
            loss = F.cross_entropy(model(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            record.step(step, epoch, loss, lambda: accuracy(model, data.test, device))
        record.epoch(step, epoch, loss, lambda: accuracy(model, data.test, device))
    record.finish()
    return model


def main(arguments: list[str] | None = None, prog: str | None = None) -> None:
    """Run from the command line."""
    launch("cnn", __doc__, DEFAULTS, train, build, arguments, prog)


if __name__ == "__main__":
    main()
