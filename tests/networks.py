"""Networks that several tests of graphs record."""

import numpy as np

import minigrad
import minigrad.functional as F
from minigrad import Tensor, layers, viz


class Net(layers.Module):
    """Linear, BatchNorm, ReLU, Linear."""

    def __init__(self, dtype=np.float64):
        super().__init__()
        self.fc1 = layers.Linear(5, 7, dtype=dtype)
        self.bn1 = layers.BatchNorm1d(7, dtype=dtype)
        self.act = layers.ReLU()
        self.fc2 = layers.Linear(7, 3, dtype=dtype)

    def forward(self, x):
        return self.fc2(self.act(self.bn1(self.fc1(x))))


class Bottleneck(layers.Module):
    """Three convolutions with BatchNorm, and a shortcut."""

    def __init__(self, before, middle, after, stride=1):
        super().__init__()
        self.conv1, self.bn1 = layers.Conv2d(before, middle, 1, bias=False), layers.BatchNorm2d(middle)
        self.conv2 = layers.Conv2d(middle, middle, 3, padding=1, stride=stride, bias=False)
        self.bn2 = layers.BatchNorm2d(middle)
        self.conv3, self.bn3 = layers.Conv2d(middle, after, 1, bias=False), layers.BatchNorm2d(after)
        self.down = None
        if before != after or stride > 1:
            self.down = layers.Sequential(layers.Conv2d(before, after, 1, stride=stride, bias=False),
                                          layers.BatchNorm2d(after))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.down is None else self.down(x)))


class ResNet50(layers.Module):
    """The depth of ResNet-50, at a small width."""

    def __init__(self, width=4):
        super().__init__()
        self.conv1, self.bn1 = layers.Conv2d(3, width, 3, padding=1, bias=False), layers.BatchNorm2d(width)
        before = width
        for k, blocks in enumerate((3, 4, 6, 3)):
            row = []
            for b in range(blocks):
                row.append(Bottleneck(before, width * 2**k, 4 * width * 2**k, 2 if b == 0 and k else 1))
                before = 4 * width * 2**k
            setattr(self, f"layer{k + 1}", layers.Sequential(*row))
        self.fc = layers.Linear(before, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for k in range(4):
            x = getattr(self, f"layer{k + 1}")(x)
        return self.fc(x.mean((2, 3)))


def batch(dtype=np.float64):
    draw = np.random.default_rng(0)
    return Tensor(draw.standard_normal((6, 5)).astype(dtype), name="x"), draw.integers(0, 3, 6)


def recorded(model=None, backward=True, create_graph=False, **options):
    """A model, and the recorder of one step of it."""
    minigrad.manual_seed(0)
    model = model or Net()
    x, target = batch(model.fc1.weight.dtype)
    with viz.record(model, **options) as rec:
        loss = F.cross_entropy(model(x), target)
        if backward:
            loss.backward(create_graph=create_graph)
    return model, rec
