"""Schedules against torch.optim.lr_scheduler: the same rates and momenta, to the last bit."""

import inspect
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from minigrad import Parameter, Tensor, optim  # noqa: E402
from minigrad.errors import MinigradError  # noqa: E402

T = torch.optim.lr_scheduler
STEPS = 30


def optimizers(kind="SGD", **options):
    """Both of one kind, with two groups of different rates."""
    ours = getattr(optim, kind)([{"params": [Parameter([1.0])]}, {"params": [Parameter([2.0])], "lr": 0.03}], lr=0.5,
                                **options)
    theirs = getattr(torch.optim, kind)([{"params": [torch.nn.Parameter(torch.ones(1))]},
                                         {"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.03}], lr=0.5,
                                         **options)
    return ours, theirs


def facts(optimizer):
    return [(g["lr"], g.get("momentum"), tuple(g.get("betas", ()))) for g in optimizer.param_groups]


def same_way(make, steps=STEPS, kind="SGD", **options):
    """`make(module, optimizer)` gives the schedule."""
    ours, theirs = optimizers(kind, **options)
    mine, wanted = make(optim, ours), make(T, theirs)
    for _ in range(steps):
        assert facts(ours) == facts(theirs)
        assert mine.get_last_lr() == wanted.get_last_lr()
        ours.step(), theirs.step()
        mine.step(), wanted.step()
    return mine, wanted


SCHEDULES = [
    ("StepLR", (3,), {}), ("StepLR", (1, 0.5), {}), ("MultiStepLR", ([2, 5, 5, 9],), {"gamma": 0.3}),
    ("MultiStepLR", ([],), {}),
    ("LinearLR", (), {}), ("LinearLR", (0.1, 0.7, 9), {}), ("LinearLR", (1.0, 0.0, 8), {}),
    ("CosineAnnealingLR", (10,), {}),
    ("CosineAnnealingLR", (7, 0.01), {}), ("CosineAnnealingLR", (1,), {}), ("ExponentialLR", (0.9,), {}),
    ("LambdaLR", (lambda n: 0.9**n,), {}),
    ("LambdaLR", ([lambda n: 1 / (n + 1), lambda n: 2.0],), {}),
]


@pytest.mark.parametrize(("name", "args", "options"), SCHEDULES, ids=range(len(SCHEDULES)))
def test_rates(name, args, options):
    same_way(lambda module, optimizer: getattr(module, name)(optimizer, *args, **options))


@pytest.mark.parametrize("options", [
    {}, {"anneal_strategy": "linear"}, {"three_phase": True},
    {"pct_start": 0.5, "div_factor": 10.0, "final_div_factor": 100.0},
    {"cycle_momentum": False}, {"base_momentum": 0.5, "max_momentum": [0.9, 0.8]},
    {"three_phase": True, "anneal_strategy": "linear", "pct_start": 0.25},
], ids=str)
@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_one_cycle(kind, options):
    extra = {"momentum": 0.9} if kind == "SGD" else {}
    same_way(lambda module, o: module.OneCycleLR(o, [1.0, 0.1], total_steps=30, **options), 30, kind, **extra)
    same_way(lambda module, o: module.OneCycleLR(o, 2.0, epochs=5, steps_per_epoch=4, **options), 20, kind, **extra)


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_warm_up_and_then_a_cosine():
    def make(module, optimizer):
        parts = [module.LinearLR(optimizer, 0.1, total_iters=4), module.CosineAnnealingLR(optimizer, 10),
                 module.StepLR(optimizer, 2)]
        return module.SequentialLR(optimizer, parts, [4, 14])

    same_way(make)


def test_two_schedules_on_one_optimizer():
    class Both:
        def __init__(self, *parts):
            self.parts = parts

        def step(self):
            for part in self.parts:
                part.step()

        def get_last_lr(self):
            return self.parts[-1].get_last_lr()

    same_way(lambda module, o: Both(module.LinearLR(o, 0.2, total_iters=6), module.ExponentialLR(o, 0.95)))


@pytest.mark.parametrize("options", [
    {}, {"mode": "max"}, {"patience": 1, "factor": 0.5}, {"patience": 0, "cooldown": 3, "threshold": 0.1},
    {"patience": 1, "threshold_mode": "abs"},
    {"patience": 0, "min_lr": 0.01}, {"patience": 0, "min_lr": [0.1, 0.001]},
    {"mode": "max", "threshold_mode": "abs", "threshold": 0.2, "patience": 2},
    {"patience": 0, "eps": 0.02},
], ids=str)
def test_plateau(options):
    ours, theirs = optimizers()
    mine, wanted = optim.ReduceLROnPlateau(ours, **options), T.ReduceLROnPlateau(theirs, **options)
    falling = np.abs(np.random.default_rng(1).normal(size=40)).cumsum()[::-1] * 0.1
    for loss in falling + np.random.default_rng(2).random(40):
        mine.step(Tensor([loss])), wanted.step(loss)
        assert facts(ours) == facts(theirs)
        assert (mine.num_bad_epochs, mine.cooldown_counter, mine.best) == (wanted.num_bad_epochs,
                                                                           wanted.cooldown_counter,
                                                                           pytest.approx(wanted.best))


MAKERS = [
    lambda o: optim.StepLR(o, 3), lambda o: optim.MultiStepLR(o, [4, 12]), lambda o: optim.CosineAnnealingLR(o, 9),
    lambda o: optim.OneCycleLR(o, 1.0, total_steps=30, cycle_momentum=False),
    lambda o: optim.LambdaLR(o, lambda n: 1 / (n + 1)),
    lambda o: optim.SequentialLR(o, [optim.LinearLR(o, 0.1), optim.CosineAnnealingLR(o, 10)], [5]),
]


@pytest.mark.parametrize("make", MAKERS, ids=range(len(MAKERS)))
def test_going_on_from_a_checkpoint(make):
    """The states, through JSON, of optimizer and schedule are enough."""
    ours, _ = optimizers()
    schedule = make(ours)
    for _ in range(7):
        schedule.step()
    saved = json.loads(json.dumps([ours.state_dict(), schedule.state_dict()]))
    other, _ = optimizers()
    resumed = make(other)
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for _ in range(10):
        assert facts(ours) == facts(other)
        schedule.step(), resumed.step()


@pytest.mark.parametrize("name", ["LRScheduler", "LambdaLR", "StepLR", "MultiStepLR", "LinearLR", "ExponentialLR",
                                  "CosineAnnealingLR", "OneCycleLR",
                                  "ReduceLROnPlateau", "SequentialLR"])
def test_signatures(name):
    mine, wanted = (inspect.signature(getattr(m, name).__init__).parameters for m in (optim, T))
    assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in wanted.values()]


@pytest.mark.parametrize("make", [
    lambda m, o: m.LinearLR(o, 0.0), lambda m, o: m.LinearLR(o, 0.5, 1.5), lambda m, o: m.OneCycleLR(o, 1.0),
    lambda m, o: m.OneCycleLR(o, 1.0, total_steps=0), lambda m, o: m.OneCycleLR(o, 1.0, total_steps=5, pct_start=1.5),
    lambda m, o: m.OneCycleLR(o, 1.0, total_steps=5, anneal_strategy="exp"), lambda m,
    o: m.OneCycleLR(o, [1.0], total_steps=5),
    lambda m, o: m.ReduceLROnPlateau(o, factor=1.0), lambda m, o: m.ReduceLROnPlateau(o, mode="low"),
    lambda m, o: m.ReduceLROnPlateau(o, min_lr=[0.1]), lambda m, o: m.LambdaLR(o, [lambda n: 1.0]), lambda m,
    o: m.StepLR(None, 3),
    lambda m, o: m.SequentialLR(o, [m.StepLR(o, 3)], [2]), lambda m, o: m.SequentialLR(o, [], []), lambda m,
    o: m.StepLR(o, 3, last_epoch=4),
    lambda m, o: [s.step() for s in [m.OneCycleLR(o, 1.0, total_steps=2)] for _ in range(4)],
], ids=range(16))
@pytest.mark.filterwarnings("ignore:Detected call of")
def test_what_torch_refuses_we_refuse(make):
    ours, theirs = optimizers(momentum=0.5)
    with pytest.raises((ValueError, TypeError, KeyError)):
        make(T, theirs)
    with pytest.raises(MinigradError, match="got"):
        make(optim, ours)
