"""Draw what a network computes: BatchNorm opened, a page to look around in, and training against evaluation.

python examples/draw_graph.py --out graphs
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import minigrad
import minigrad.functional as F
from minigrad import Tensor, layers, viz


class Net(layers.Module):
    """784-128-10 with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = layers.Linear(784, 128)
        self.bn1 = layers.BatchNorm1d(128)
        self.fc2 = layers.Linear(128, 10)

    def forward(self, x: Any) -> Any:
        """Scores of ten classes."""
        return self.fc2(F.relu(self.bn1(self.fc1(x))))


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="graphs", help="folder for the pictures")
    parser.add_argument("--tiny", action="store_true", help="accepted like by all examples; this one is always quick")
    given = parser.parse_args(arguments)
    folder = Path(given.out)
    folder.mkdir(parents=True, exist_ok=True)

    minigrad.manual_seed(0)
    model = Net()
    draw = np.random.default_rng(0)
    x = Tensor(draw.standard_normal((64, 784)).astype(np.float32), name="x")
    target = draw.integers(0, 10, 64)

    # Everything inside the block is recorded, forward and backward; outside it, nothing costs anything.
    with viz.record(model, title="784-128-10 with BatchNorm, training") as training:
        F.cross_entropy(model(x), target).backward()
    model.eval()
    with viz.record(model, title="784-128-10 with BatchNorm, evaluation") as evaluation:
        F.cross_entropy(model(x), target).backward()

    graph = training.graph
    print(graph.summary())
    print("\nThe gradient at BatchNorm's input is the sum over three ways into it:")
    for step in graph.op[graph.find("bn1")[0].id].body:
        for use in graph.uses_by_op[step]:
            if use.grad and use.tensor == graph.find("bn1")[0].inputs[0]:
                print(f"  through {graph.op[step].op:10} norm {use.grad.norm:.3g}")

    difference = viz.diff(graph, evaluation.graph)
    print(f"\n{difference.text()}\n")
    try:
        graph.save(folder / "batchnorm.svg", opened=["bn1"])
        graph.save(folder / "graph.html")
        difference.save(folder / "difference.svg")
        print(f"pictures are in {folder}")
    except viz.RenderError as error:
        graph.save(folder / "graph.json")
        print(f"{error}\nthe graph is in {folder} as data")


if __name__ == "__main__":
    main()
