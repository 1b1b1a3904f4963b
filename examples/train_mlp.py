"""Train the network of Figure 1 of the BatchNorm paper on Fashion-MNIST, with or without normalization.

784-100-100-100-10, sigmoid, batches of 60, plain SGD, weights from small Gaussians (Ioffe & Szegedy, arXiv:1502.03167,
section 4.1; the paper used MNIST). Run it:

    python examples/train_mlp.py --norm batch
    python examples/train_mlp.py --norm none --lr 1.0
"""

from __future__ import annotations

import itertools

import minigrad
import minigrad.functional as F
from minigrad import layers, optim
from minigrad.data import DataLoader
from minigrad.examples._setup import Record, Split, accuracy, generators, launch, normalization

WIDTHS = (784, 100, 100, 100)
DEFAULTS = {"epochs": 6, "batch_size": 60, "lr": 0.3}
GRID = (0.1, 0.3, 1.0, 3.0)


def build(norm: str, seed: int = 0) -> layers.Sequential:
    """The network. A bias before BatchNorm would be subtracted again with the mean, so there is none."""
    draws = generators(seed)
    stack: list[layers.Module] = [layers.Flatten()]
    for wide, narrow in itertools.pairwise(WIDTHS):
        stack += [gaussian(layers.Linear(wide, narrow, bias=norm != "batch"), next(draws)),
                  *normalization(norm, (narrow,)), layers.Sigmoid()]
    return layers.Sequential(*stack, gaussian(layers.Linear(WIDTHS[-1], 10), next(draws)))


def gaussian(linear: layers.Linear, generator: minigrad.Generator) -> layers.Linear:
    """Weights drawn with standard deviation 1/√inputs, biases 0."""
    layers.init.normal_(linear.weight, std=linear.in_features**-0.5, generator=generator)
    if linear.bias is not None:
        layers.init.zeros_(linear.bias)
    return linear


def train(norm: str, data: Split, *, lr: float, epochs: int, batch_size: int, seed: int, device: str = "cpu",
          record: Record | None = None) -> layers.Sequential:
    """Train from scratch and return the network."""
    record = record or Record()
    minigrad.manual_seed(seed)
    model = build(norm, seed).to(device)
    optimizer = optim.SGD(model.parameters(), lr=lr)
    loader = DataLoader(data.train, batch_size, shuffle=True, seed=seed, drop_last=True)
    record.start(epochs, epochs * len(loader), model)
    step = 0
    for epoch in range(1, epochs + 1):
        for images, labels in loader:
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
    launch("mlp", __doc__, DEFAULTS, train, build, arguments, prog)


if __name__ == "__main__":
    main()
