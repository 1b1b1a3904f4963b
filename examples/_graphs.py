"""What `--graph` of the trainers does: graphs of one step, as data, as a page and as a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import minigrad.functional as F
from minigrad import Tensor, layers, viz
from minigrad.data import DataLoader, Dataset
from minigrad.run import Picture, Run
from minigrad.viz.embed import embedded


def on_first_batch(data: Dataset, given: Any) -> Callable[[layers.Module], Tensor]:
    """The loss of a classifier, which is where `given` says, on the first batch of a data set."""
    images, labels = next(iter(DataLoader(data, given.batch_size)))

    def loss_of(model: layers.Module) -> Tensor:
        dtype = next(model.parameters()).dtype
        loss: Tensor = F.cross_entropy(model(images.to(given.device, dtype)), labels.to(given.device))
        return loss

    return loss_of


def draw(model: layers.Module, loss_of: Callable[[Any], Tensor], run: Run, title: str) -> list[Picture]:
    """Record one step of a new network, in training and in evaluation; the graphs go into the run directory as data,
    the first also as a page and as a picture for the report.
    """
    graphs = []
    for mode in ("train", "eval"):
        model.train(mode == "train")
        with viz.record(model, title=f"{title}, {'training' if mode == 'train' else 'evaluation'}") as recorder:
            loss_of(model).backward()
        graphs.append(recorder.graph)
        recorder.graph.save(run.directory / f"graph_{mode}.json")
    try:
        graphs[0].save(run.directory / "graph.html")
        return [embedded(graphs[0], "The graph of one training step",
                         "graph.html, beside this report, shows it with everything that can be opened.")]
    except viz.RenderError as error:
        print(f"the graph was saved as data only. {error}")
        return []
