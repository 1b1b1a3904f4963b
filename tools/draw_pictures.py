"""Draw the pictures of README.md and docs/: graphs that are recorded here and now.

    python tools/draw_pictures.py [folder]       (make docs runs it; by default into docs/pictures)

With Chromium and Playwright it also photographs the page; without them the old photograph stays.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

import minigrad
import minigrad.functional as F
from minigrad import Tensor, layers, viz
from minigrad.examples import train_cnn
from minigrad.examples.draw_graph import Net

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]


class Residual(layers.Module):
    """Two convolutions with BatchNorm around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = layers.Conv2d(width, width, 3, padding=1, bias=False), layers.BatchNorm2d(width)
        self.conv2, self.bn2 = layers.Conv2d(width, width, 3, padding=1, bias=False), layers.BatchNorm2d(width)

    def forward(self, x):
        """x + f(x), rectified."""
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def step(model: layers.Module, shape: tuple[int, ...], title: str, create_graph: bool = False) -> viz.Graph:
    """The graph of one training step on random images."""
    draw = np.random.default_rng(0)
    x = Tensor(draw.standard_normal(shape).astype(np.float32), name="x")
    with viz.record(model, title=title) as recorder:
        F.cross_entropy(model(x), draw.integers(0, 10, shape[0])).backward(create_graph=create_graph)
    return recorder.graph


def attention() -> viz.Graph:
    """Scaled dot-product attention with a causal mask."""
    draw = np.random.default_rng(0)
    q, k, v = (Tensor(draw.standard_normal((2, 4, 10, 8)).astype(np.float32), requires_grad=True, name=name)
               for name in ("query", "key", "value"))
    with viz.record(title="attention") as recorder:
        F.scaled_dot_product_attention(q, k, v, is_causal=True).mean().backward()
    return recorder.graph


def failing() -> viz.Graph:
    """A graph up to the layer whose input does not fit."""
    model = layers.Sequential(layers.Linear(784, 100), layers.ReLU(), layers.Linear(128, 10))
    recorder = viz.record(model, title="a layer that does not fit")
    try:
        with recorder:
            model(Tensor(np.zeros((64, 784), np.float32), name="x"))
    except minigrad.errors.ShapeError:
        pass
    return recorder.graph


def draw(folder: Path) -> viz.Graph:
    """Write every picture; give the graph of the small network."""
    minigrad.manual_seed(0)
    net = Net()
    training = step(net, (64, 784), "784-128-10 with BatchNorm")
    training.save(folder / "batchnorm.svg", opened=["bn1"])
    training.save(folder / "primitives.svg", opened=["bn1", "Mean", "Normalize", "Rsqrt", "ScaleShift"], focus="bn1",
                  radius=1)
    training.save(folder / "moments.svg", opened=["bn1", "Mean"], focus="bn1", radius=1)
    step(net, (64, 784), "the backward pass", create_graph=True).save(folder / "backward.svg", phase="backward")
    evaluation = step(net.eval(), (64, 784), "evaluation")
    viz.diff(training, evaluation, opened=["bn1"]).save(folder / "train-eval.svg")
    viz.diff(evaluation, step(layers.fold(net, Tensor(np.zeros((1, 784), np.float32))), (64, 784), "folded")).save(
        folder / "folded.svg")
    attention().save(folder / "attention.svg", opened=["Attention"])
    networks = [train_cnn.build(norm) for norm in ("none", "batch")]
    without, cnn = (step(network, (16, 1, 28, 28), "cnn") for network in networks)
    cnn.save(folder / "cnn.svg")
    viz.diff(without, cnn).save(folder / "with-without.svg")
    deep = layers.Sequential(layers.Conv2d(1, 8, 3, padding=1), *[Residual(8) for _ in range(16)],
                             layers.AvgPool2d(28), layers.Flatten(), layers.Linear(8, 10))
    step(deep, (2, 1, 28, 28), "16 residual blocks").save(folder / "deep.svg")
    failing().save(folder / "failing.svg")
    return training


def photograph(graph: viz.Graph, folder: Path) -> bool:
    """The page with BatchNorm opened and clicked, in light and in dark."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None or importlib.util.find_spec("playwright") is None:
        return False
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as driver:
        page_file = graph.save(Path(temporary) / "graph.html")
        chromium = driver.chromium.launch(executable_path=browser, args=FLAGS)
        for scheme in ("light", "dark"):
            page = chromium.new_page(viewport={"width": 1366, "height": 820}, color_scheme=scheme)
            page.goto(page_file.as_uri())
            page.dblclick(".node[aria-label^='BatchNorm1d bn1']")
            page.click(".node[aria-label^='Normalize']")
            for _ in range(8):
                page.click("#step")
            page.screenshot(path=folder / f"page-{scheme}.png")
            page.close()
        chromium.close()
    return True


def main() -> None:
    """Draw into the folder that is named, or docs/pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    photographed = photograph(draw(folder), folder)
    print(f"pictures are in {folder}" + ("" if photographed else "; no Chromium with Playwright: no new page-*.png"))


if __name__ == "__main__":
    main()
