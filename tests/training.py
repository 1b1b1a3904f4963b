"""A small training run with all that a checkpoint has to hold; the tests of resuming share it."""

import contextlib

import numpy as np

import minigrad
import minigrad.functional as F
from minigrad import layers, optim
from minigrad.data import DataLoader, RandomFlip, TensorDataset, Transformed
from minigrad.run import Record, Run

EPOCHS, SAMPLES, BATCH = 12, 70, 8


class Decay:
    """A schedule with the two methods that torch's have; its milestones have numbers as keys."""

    def __init__(self, optimizer):
        self.optimizer, self.milestones, self.step_count = optimizer, {20: 0.5, 60: 0.5}, 0

    def step(self):
        self.step_count += 1
        for group in self.optimizer.param_groups:
            group["lr"] *= self.milestones.get(self.step_count, 1.0)

    def state_dict(self):
        return {"milestones": dict(self.milestones), "step_count": self.step_count}

    def load_state_dict(self, state):
        self.milestones, self.step_count = dict(state["milestones"]), state["step_count"]


class Scaler:
    """A loss scaler: a number that changes on the way."""

    def __init__(self):
        self.scale = 1.0

    def state_dict(self):
        return {"scale": self.scale}

    def load_state_dict(self, state):
        self.scale = state["scale"]


def train(run, *, workers=0, checkpoint_every=1, every=3, epochs=EPOCHS, patience=None, each=lambda step: None):
    """BatchNorm, dropout, Adam, a schedule, a loss scaler, averages, flips; returns record and model."""
    rng = np.random.default_rng(0)
    data = TensorDataset(rng.standard_normal((SAMPLES, 1, 2, 3)).astype(np.float32), rng.integers(0, 3, SAMPLES))
    minigrad.manual_seed(1)
    model = layers.Sequential(layers.Flatten(), layers.Linear(6, 5), layers.BatchNorm1d(5), layers.ReLU(),
                              layers.Dropout(0.3), layers.Linear(5, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    schedule, scaler, ema = Decay(optimizer), Scaler(), optim.EMA(model, 0.9)
    loader = DataLoader(Transformed(data, [RandomFlip()], seed=3), BATCH, shuffle=True, seed=2, workers=workers)
    record = Record("small", run, every=every, checkpoint_every=checkpoint_every, patience=patience)

    def gradients(images, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        (loss * scaler.scale).backward()
        return loss

    def evaluate():
        model.eval()
        with ema.applied(), minigrad.no_grad():
            right = (model(minigrad.Tensor(data.arrays[0])).numpy().argmax(1) == data.arrays[1]).mean()
        model.train()
        return float(right)

    record.start(epochs, loader, model=model, optimizer=optimizer, schedule=schedule, scaler=scaler, ema=ema)
    for _ in record.remaining():
        for batch in loader:
            each(record.steps)
            loss = gradients(*batch)
            record.check(loss, gradients, *batch)
            optimizer.step()
            schedule.step()
            scaler.scale *= 1.01
            ema.update()
            record.step(loss, evaluate)
        if record.epoch(evaluate):
            break
    record.finish()
    return record, model


def run_or_resume(directory, **options):
    """Go on with a run if its settings were written, else begin it."""
    begun = (directory / "config.json").exists()
    with Run.open(directory) if begun else Run(directory, {"seed": 1}) as run:
        return train(run, **options)


def outcome(directory):
    """All that two equal runs must have in common, as bytes: metrics, and the newest checkpoint but for its clock."""
    newest = max((directory / "checkpoints").glob("step-*"))
    arrays = {file.name: file.read_bytes() for file in sorted(newest.glob("*.safetensors"))}
    return (directory / "metrics.jsonl").read_bytes(), newest.name, arrays


@contextlib.contextmanager
def stopped_at(step):
    """What `train` takes as `each`, to break off before a step; the block swallows the break."""
    class Stop(Exception):
        pass

    def each(steps):
        if steps == step:
            raise Stop

    with contextlib.suppress(Stop):
        yield each
