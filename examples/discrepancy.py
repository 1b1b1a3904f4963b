"""How far a network in training is from itself in inference: measured by layer and batch size, then repaired.

Run it with ``python examples/discrepancy.py``.

Trains a small network with BatchNorm whose running averages follow too slowly, measures, takes its statistics anew with
`recalibrate`, and measures again: what lag has caused is gone, what the noise of small batches causes stays.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import minigrad
from minigrad import functional as F
from minigrad import layers, no_grad, optim
from minigrad.data import DataLoader, Dataset, FashionMNIST, Subset

SIZES = (4, 8, 16, 32, 64, 128)


def network(momentum: float) -> layers.Sequential:
    """Two convolutions and a linear layer, each with BatchNorm."""
    return layers.Sequential(
        layers.Conv2d(1, 8, 3, stride=2, bias=False), layers.BatchNorm2d(8, momentum=momentum), layers.ReLU(),
        layers.Conv2d(8, 16, 3, stride=2, bias=False), layers.BatchNorm2d(16, momentum=momentum), layers.ReLU(),
        layers.Flatten(), layers.Linear(16 * 36, 32, bias=False), layers.BatchNorm1d(32, momentum=momentum),
        layers.ReLU(), layers.Linear(32, 10))


def train(model: layers.Module, data: Dataset, batch_size: int, lr: float) -> None:
    """One pass."""
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for images, labels in DataLoader(data, batch_size, shuffle=True, seed=0):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def accuracy(model: layers.Module, data: Dataset) -> float:
    """The fraction of images that the model gets right, in evaluation."""
    model.eval()
    right = 0
    with no_grad():
        for images, labels in DataLoader(data, 500):
            right += int((model(images).numpy().argmax(1) == labels.numpy()).sum())
    model.train()
    return right / len(data)


def main(given: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--momentum", type=float, default=0.01, help="weight of a new batch in the running averages")
    parser.add_argument("--batch-size", type=int, default=32, help="images in one step of training")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights")
    parser.add_argument("--tiny", action="store_true", help="a few seconds only, to see that everything runs")
    chosen = parser.parse_args(given)
    minigrad.manual_seed(chosen.seed)
    images, sizes = (400, (4, 16)) if chosen.tiny else (6400, SIZES)
    data = Subset(FashionMNIST(), range(images))
    test = Subset(FashionMNIST(train=False), range(200 if chosen.tiny else 2000))
    model = network(chosen.momentum)
    train(model, data, chosen.batch_size, chosen.lr)
    for title in ("after training", "after recalibrate"):
        found = layers.discrepancy(model, DataLoader(data, 128), sizes, output=lambda y: F.softmax(y, 1))
        print(f"{title}: {accuracy(model, test):.1%} of {len(test)} test images right\n{found}\n", flush=True)
        if title == "after training":
            layers.recalibrate(model, DataLoader(data, chosen.batch_size))


if __name__ == "__main__":
    main()
