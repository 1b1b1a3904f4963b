"""What `--graph` of the trainers does: graphs of one step, as data, as a page and as a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import minigrad.functional as F
from minigrad import layers, viz
from minigrad.data import DataLoader, Dataset
from minigrad.run import Picture, Run
from minigrad.viz.embed import embedded


def draw(build: Callable[[], layers.Module], data: Dataset, given: Any, run: Run, title: str) -> list[Picture]:
    """Record one step of a new network on the first batch, in training and in evaluation; the graphs go into the run
    directory as data, the first also as a page and as a picture for the report.
    """
    images, labels = next(iter(DataLoader(data, given.batch_size)))
    model = build().to(given.device, given.precision)
    graphs = []
    for mode in ("train", "eval"):
        model.train(mode == "train")
        with viz.record(model, title=f"{title}, {'training' if mode == 'train' else 'evaluation'}") as recorder:
            F.cross_entropy(model(images.to(given.device, given.precision)), labels.to(given.device)).backward()
        graphs.append(recorder.graph)
        recorder.graph.save(run.directory / f"graph_{mode}.json")
    try:
        graphs[0].save(run.directory / "graph.html")
        return [embedded(graphs[0], "The graph of one training step",
                         "graph.html, beside this report, shows it with everything that can be opened.")]
    except viz.RenderError as error:
        print(f"the graph was saved as data only. {error}")
        return []
