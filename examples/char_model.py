"""Train a model of text, character by character, on the pages about Python that ship with Python, and let it write.

A transformer, or layers of LSTM, with a way around every layer and a normalization before or after it. Run it:

    python examples/char_model.py --model transformer --norm layer --norm-place pre
    python examples/char_model.py --model lstm --norm none
    python examples/char_model.py --compare none,layer --lr 0.04 --steps 100 --batch-size 16
    python examples/char_model.py --compare none,layer --model lstm --lr 1 --steps 100 --batch-size 16

What LayerNorm does is let a large learning rate pass. Bits per character on the text kept apart, with seed 0; the last
digit varies with the machine, and 6.7 is to know nothing but how many characters there are:

    model        place  steps × pieces  learning rate  without  LayerNorm  RMSNorm
    transformer  pre      100 × 16      0.04             344      3.66       3.63
    transformer  post     100 × 16      0.04             344      4.71       4.71
    LSTM         pre      100 × 16      1                 12.7    3.95
    LSTM         pre      600 × 32      0.002 (default)    2.31   2.21
    transformer  pre      100 × 16      0.01               3.30   3.38       3.39
    transformer  pre      600 × 32      0.002 (default)    2.43   2.76

The first three train with it and diverge without. Where the rate is small enough for both, a transformer of four blocks
is better off without: the ways around its parts are enough to train it.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import numpy as np

import minigrad
import minigrad.functional as F
from minigrad import Tensor, io, layers, optim
from minigrad.examples._graphs import draw
from minigrad.examples._setup import DONE, device, ended, parameters, rate, whole
from minigrad.run import Progress, Run, Table

FEATURES, HEADS, DEPTH, CONTEXT = 64, 4, 4, 64
NORMS: dict[str, Callable[[int], layers.Module]] = {
    "none": layers.Identity, "layer": layers.LayerNorm, "rms": layers.RMSNorm}
NAMES = {"none": "no normalization", "layer": "LayerNorm", "rms": "RMSNorm"}


class Text(NamedTuple):
    """Characters as numbers: those to learn from, those to test on, and which character each number is."""

    train: np.ndarray
    test: np.ndarray
    characters: str


def read() -> Text:
    """The help pages of Python, cut into nine parts to train on and one to test on."""
    text = "\n".join(topics[name] for name in sorted(topics))
    characters = "".join(sorted(set(text)))
    numbers = {c: i for i, c in enumerate(characters)}
    coded = np.array([numbers[c] for c in text], np.int64)
    cut = len(coded) * 9 // 10
    return Text(coded[:cut], coded[cut:], characters)


class LSTMBlock(layers.Module):
    """A layer of LSTM with a way around it; it starts from zeros at the beginning of every piece of text."""

    def __init__(self, norm: Callable[[int], layers.Module], norm_first: bool) -> None:
        super().__init__()
        self.lstm = layers.LSTM(FEATURES, FEATURES, batch_first=True)
        self.norm = norm(FEATURES)
        self.norm_first = norm_first

    def forward(self, x: Any) -> Any:
        """Transform `x` (N, L, features)."""
        if self.norm_first:
            return x + self.lstm(self.norm(x))[0]
        return self.norm(x + self.lstm(x)[0])


class CharModel(layers.Module):
    """Scores for the next character at every place of a text: numbers (N, L) to scores (N, L, characters)."""

    def __init__(self, kind: str, norm: str, place: str, characters: int) -> None:
        super().__init__()
        self.kind = kind
        self.embedding = layers.Embedding(characters, FEATURES)
        if kind == "transformer":
            self.position = layers.Embedding(CONTEXT, FEATURES)
        make, first = NORMS[norm], place == "pre"
        self.blocks = layers.ModuleList([
            layers.TransformerEncoderLayer(FEATURES, HEADS, 4 * FEATURES, 0.0, "gelu", batch_first=True,
                                           norm_first=first, norm=make)
            if kind == "transformer" else LSTMBlock(make, first) for _ in range(DEPTH)])
        self.norm = make(FEATURES) if first else layers.Identity()  # before it, nothing has normalized the sum
        self.head = layers.Linear(FEATURES, characters)

    def forward(self, x: Any) -> Any:
        """Scores for what follows each character of `x`."""
        y = self.embedding(x)
        if self.kind == "transformer":
            y = y + self.position(np.arange(x.shape[1]))
        for block in self.blocks:
            y = block(y, is_causal=True) if self.kind == "transformer" else block(y)
        return self.head(self.norm(y))


def loss_of(model: CharModel, pieces: np.ndarray) -> Tensor:
    """Mean cross-entropy, in nats per character, of pieces (N, L + 1) of text."""
    there = Tensor(pieces, device=model.head.weight.device)
    scores = model(there[:, :-1])
    loss: Tensor = F.cross_entropy(scores.reshape(-1, scores.shape[-1]), there[:, 1:].reshape(-1))
    return loss


def held_out_loss(model: CharModel, text: Text, pieces: int = 128) -> float:
    """Bits per character on evenly spaced pieces of the text that was kept apart."""
    starts = np.linspace(0, len(text.test) - CONTEXT - 1, pieces).astype(np.int64)
    model.eval()
    with minigrad.no_grad():
        loss = loss_of(model, text.test[starts[:, None] + np.arange(CONTEXT + 1)]).item()
    model.train()
    return float(loss) / math.log(2)


def train(kind: str, norm: str, place: str, text: Text, *, lr: float, steps: int, batch_size: int, seed: int,
          device: str = "cpu",
          report: Callable[[int, float, CharModel], None] = lambda step, loss, model: None) -> CharModel:
    """Train from scratch: AdamW, gradients of norm 1 at most, a linear warm-up and then a cosine down to nothing."""
    minigrad.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = CharModel(kind, norm, place, len(text.characters)).to(device)
    optimizer = optim.AdamW(optim.parameter_groups(model, weight_decay=0.01), lr=lr)
    warm = max(1, steps // 20)
    schedule = optim.SequentialLR(optimizer, [optim.LinearLR(optimizer, 0.01, total_iters=warm),
                                              optim.CosineAnnealingLR(optimizer, max(1, steps - warm))], [warm])
    for step in range(1, steps + 1):
        starts = rng.integers(0, len(text.train) - CONTEXT, batch_size)
        loss = loss_of(model, text.train[starts[:, None] + np.arange(CONTEXT + 1)])
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        report(step, loss.item() / math.log(2), model)
    return model


def sample(model: CharModel, text: Text, start: str, length: int, seed: int, temperature: float = 0.8) -> str:
    """Text that the model writes: each character drawn from the distribution that it gives after those before."""
    generator = minigrad.Generator(seed)
    coded = [text.characters.index(c) for c in start]
    model.eval()
    with minigrad.no_grad():
        for _ in range(length):
            scores = model(Tensor(np.array([coded[-CONTEXT:]]), device=model.head.weight.device))[0, -1].cpu()
            coded.append(int(minigrad.multinomial(F.softmax(scores / temperature, 0), 1, generator=generator)))
    model.train()
    return "".join(text.characters[i] for i in coded)


def one(given: argparse.Namespace, norm: str, text: Text, run: Run,
        progress: Progress) -> tuple[CharModel, float, float]:
    """Train one model with everything recorded; the model, its test loss and the seconds."""
    series = NAMES[norm]
    progress.start(series, epochs=1, steps=given.steps)
    began = time.perf_counter()

    def report(step: int, loss: float, model: CharModel) -> None:
        if step % 50 == 0:
            run.log(series, step, 1, loss=loss, test=held_out_loss(model, text))
        if step % 10 == 0:
            progress.update(series, step=step, epoch=1, loss=loss)

    model = train(given.model, norm, given.norm_place, text, lr=given.lr, steps=given.steps,
                  batch_size=given.batch_size, seed=given.seed, device=given.device, report=report)
    progress.finish(series)
    bits = held_out_loss(model, text, given.pieces)
    run.log(series, given.steps, 1, test=bits)
    return model, bits, time.perf_counter() - began


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", choices=("lstm", "transformer"), default="transformer", help="what to train")
    parser.add_argument("--norm", choices=sorted(NORMS), default="layer", help="the normalization of every layer")
    parser.add_argument("--norm-place", choices=("pre", "post"), default="pre",
                        help="before each layer, or after it and the way around it have been added")
    parser.add_argument("--compare", type=names, metavar="NORM,NORM", help="train one after the other, and compare")
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:N, or auto")
    parser.add_argument("--lr", type=rate, default=2e-3, help="learning rate after the warm-up")
    parser.add_argument("--steps", type=whole(1), default=600)
    parser.add_argument("--batch-size", type=whole(1), default=32, help=f"pieces of {CONTEXT} characters in one step")
    parser.add_argument("--seed", type=whole(0), default=0, help="of initialization, of the pieces and of the sample")
    parser.add_argument("--length", type=whole(1), default=400, help="characters to write at the end")
    parser.add_argument("--out", help="run directory to make (default: runs/<date>-<time>-<name>)")
    parser.add_argument("--graph", action="store_true", help="write the graph of one step, as data and as a page")
    parser.add_argument("--tiny", action="store_true", help="a few seconds only, to see that everything runs")
    parser.set_defaults(pieces=128)
    given = parser.parse_args(arguments)
    if given.tiny:
        given.steps, given.batch_size, given.length, given.pieces = 3, 4, 20, 16
    return ended(lambda: work(given))


def work(given: argparse.Namespace) -> int:
    """Train, print the table, and let the last model write."""
    text = read()
    print(f"{len(text.train):,} characters to train on, {len(text.test):,} to test on, of {len(text.characters)} kinds")
    rows = []
    with Run(given.out, vars(given), title=f"char-{given.model}") as run, Progress() as progress:
        if given.graph:
            new = CharModel(given.model, (given.compare or [given.norm])[-1], given.norm_place, len(text.characters))
            draw(new.to(given.device), lambda model: loss_of(model, text.train[:4 * (CONTEXT + 1)].reshape(4, -1)), run,
                 f"char-{given.model}")
        for norm in given.compare or [given.norm]:
            model, bits, seconds = one(given, norm, text, run, progress)
            rows.append((NAMES[norm], f"{bits:.3f}", parameters(model), f"{seconds:.0f} s"))
        io.save(model.state_dict(), run.directory / "model.safetensors")
    print(Table(("normalization", "bits per character", "parameters", "time"), rows).text())
    print(f"\nWhat the last one writes:\n\n{sample(model, text, 'The ', given.length, given.seed)}\n\n"
          f"weights and metrics are in {run.directory}")
    return DONE


def names(text: str) -> list[str]:
    """Names of normalizations, for argparse."""
    found = text.split(",")
    if not set(found) <= set(NORMS):
        raise argparse.ArgumentTypeError(f"{text!r} is not some of {', '.join(NORMS)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
