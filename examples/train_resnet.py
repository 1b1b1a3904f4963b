"""Train a small ResNet of the CIFAR kind, on CIFAR-10 where it is at hand and on Fashion-MNIST elsewhere.

A convolution, three stages of residual blocks with 16, 32 and 64 channels, global average pooling, one linear layer
(He, Zhang, Ren & Sun, arXiv:1512.03385, section 4.2): 6n + 2 layers with n blocks in each stage. `--zero-init-residual`
starts the last normalization of every block at γ = 0, so that each block begins as the identity (Goyal et al.,
arXiv:1706.02677).

    python examples/train_resnet.py --norm batch --augment
    python examples/train_resnet.py --norm none --depth 20 --lr 0.01
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import minigrad
from minigrad import Tensor, layers
from minigrad.data import Dataset, Normalize, RandomCrop, RandomFlip, Transformed
from minigrad.data.transforms import Transform
from minigrad.errors import ArgumentError
from minigrad.examples import _setup, train_cnn
from minigrad.examples._setup import Settings, Split, generators, normalization
from minigrad.run import Record

CHANNELS = (16, 32, 64)
DEFAULTS = {"epochs": 10, "batch_size": 64, "lr": 0.1, "dataset": "auto"}


class Block(layers.Module):
    """y = relu(x' + N(conv(relu(N(conv(x))))));  x' is x, or N(conv1×1(x)) where the shape changes."""

    def __init__(self, before: int, after: int, side: int, stride: int, norm: str, zero: bool,
                 draws: Iterator[minigrad.Generator]) -> None:
        super().__init__()
        bias = norm == "none"
        small = (side - 1) // stride + 1
        shape = (after, small, small)
        self.first = layers.Sequential(layers.Conv2d(before, after, 3, stride=stride, padding=1, bias=bias,
                                                     generator=next(draws)),
                                       *normalization(norm, shape), layers.ReLU())
        self.second = layers.Sequential(layers.Conv2d(after, after, 3, padding=1, bias=bias, generator=next(draws)),
                                        *normalization(norm, shape))
        self.shortcut = layers.Sequential()
        if before != after or stride > 1:
            self.shortcut = layers.Sequential(layers.Conv2d(before, after, 1, stride=stride, bias=bias,
                                                            generator=next(draws)),
                                              *normalization(norm, shape))
        if zero:
            layers.init.zeros_(self.second[-1].weight)

    def forward(self, x: Tensor) -> Tensor:
        """Two convolutions around which the input goes."""
        y: Tensor = self.second(self.first(x), residual=self.shortcut(x), activation="relu")
        return y


class ResNet(layers.Module):
    """6n + 2 layers for images of `shape`; see the module's docstring.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, height and width, the two being equal.
    norm : str
        As `normalization` takes it.
    depth : int
        8, 14, 20, …
    zero_init_residual : bool
    seed : int
        Of the initial weights.

    Raises
    ------
    ArgumentError
        `zero_init_residual` without a normalization.
    """

    def __init__(self, shape: tuple[int, ...], norm: str, depth: int = 8, zero_init_residual: bool = False,
                 seed: int = 0, classes: int = 10) -> None:
        super().__init__()
        if zero_init_residual and norm == "none":
            raise ArgumentError("ResNet", got="zero_init_residual without normalization",
                                wanted="one whose γ can be 0")
        side, draws = shape[1], generators(seed)
        self.stem = layers.Sequential(layers.Conv2d(shape[0], CHANNELS[0], 3, padding=1, bias=norm == "none",
                                                    generator=next(draws)),
                                      *normalization(norm, (CHANNELS[0], side, side)), layers.ReLU())
        blocks: list[layers.Module] = []
        before = CHANNELS[0]
        for after in CHANNELS:
            for number in range((depth - 2) // 6):
                stride = 2 if number == 0 and after != CHANNELS[0] else 1
                blocks.append(Block(before, after, side, stride, norm, zero_init_residual, draws))
                before, side = after, (side - 1) // stride + 1
        self.blocks = layers.Sequential(*blocks)
        self.classifier = layers.Linear(CHANNELS[-1], classes, generator=next(draws))

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes."""
        scores: Tensor = self.classifier(self.blocks(self.stem(x)).mean(axis=(2, 3)))
        return scores


def prepared(data: Split, given: Settings) -> Split:
    """Normalized images; those that are trained on also shifted and mirrored at random, if that is asked for."""
    images = data.train.batch(range(min(1000, len(data.train))))[0]
    fixed: list[Transform] = [Normalize(images.mean((0, 2, 3)).tolist(), images.std((0, 2, 3)).tolist())]
    chance: list[Transform] = [RandomCrop(4), RandomFlip()] if given.augment else []

    def changed(part: Dataset) -> Dataset:
        return Transformed(part, fixed)

    held_out = None if data.held_out is None else changed(data.held_out)
    return Split(Transformed(data.train, [*fixed, *chance], given.seed), changed(data.test), held_out, data.source)


def network(given: Settings, shape: tuple[int, ...]) -> ResNet:
    """The network for images of `shape`."""
    return ResNet(shape, given.norm, given.depth, given.zero_init_residual, given.seed)


def train(given: Settings, data: Split, record: Record | None = None) -> layers.Module:
    """Train from scratch, or go on where the record's run was, and return the network: the loop of `train_cnn`."""
    return train_cnn.train(given, data, record, network)


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The options of the command line."""
    parser = _setup.trainer_options(__doc__, prog, DEFAULTS)
    add = parser.add_argument_group("ResNet").add_argument
    add("--depth", type=layers_of, default=8, help="6n + 2 layers: 8, 14, 20, …")
    add("--zero-init-residual", action="store_true", help="γ = 0 at first in the last normalization of each block")
    add("--augment", action="store_true", help="shift and mirror training images at random")
    return parser


def layers_of(text: str) -> int:
    """A depth, for argparse."""
    if int(text) < 8 or (int(text) - 2) % 6:
        raise argparse.ArgumentTypeError(f"{text} is not 6n + 2 with n from 1: 8, 14, 20, …")
    return int(text)


TRAINER = _setup.Trainer("resnet", parser, train, network, prepared)
main = TRAINER.main


if __name__ == "__main__":
    sys.exit(main())
