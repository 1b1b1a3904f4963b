"""What `--graph` and `--watch` of the trainers do: graphs of one step, and a report with what was watched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import minigrad.functional as F
from minigrad import layers, viz
from minigrad.data import DataLoader, Dataset
from minigrad.run import Chart, Picture, Run, Series, write_report
from minigrad.viz.embed import embedded
from minigrad.viz.watch import Watch, watch_charts


def draw(build: Callable[[str, int], layers.Module], norm: str, data: Dataset, given: Any, run: Run) -> list[Picture]:
    """Record one step of a new network on the first batch, in training and in evaluation; the graphs go into the run
    directory as data, the first also as a page and as a picture for the report.
    """
    images, labels = next(iter(DataLoader(data, given.batch_size)))
    model = build(norm, given.seed).to(given.device)
    graphs = []
    for mode in ("train", "eval"):
        model.train(mode == "train")
        with viz.record(model, title=f"norm {norm}, {'training' if mode == 'train' else 'evaluation'}") as recorder:
            F.cross_entropy(model(images.to(given.device)), labels.to(given.device)).backward()
        graphs.append(recorder.graph)
        recorder.graph.save(run.directory / f"graph_{mode}.json")
    try:
        graphs[0].save(run.directory / "graph.html")
        return [embedded(graphs[0], "The graph of one training step",
                         "graph.html, beside this report, shows it with everything that can be opened.")]
    except viz.RenderError as error:
        print(f"the graph was saved as data only. {error}")
        return []


def report(name: str, run: Run, series: str, steps: int, accuracy: float, watch: Watch | None,
           pictures: list[Picture]) -> Path:
    """A report on one trained network: its curves, what was watched, its graph."""
    charts = [Chart("Test accuracy", "optimizer steps", "test accuracy",
                    [Series(series, *run.curve(series, "accuracy"))], percent=True),
              Chart("Training loss", "optimizer steps", "cross-entropy of the batch",
                    [Series(series, *run.curve(series, "loss"))])]
    if watch is not None:
        watch.save(run.directory / "watch.npz")
        charts += watch_charts(watch.arrays())
    return write_report(run.directory / "report.html", title=f"{name.upper()} on Fashion-MNIST, norm {series}",
                        finding=f"{accuracy:.1%} of the test images right after {steps:,} steps.", charts=charts,
                        pictures=pictures, config=run.config, environment=run.environment)
