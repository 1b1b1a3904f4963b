"""Schedules against their closed formulas, and what they refuse; bit for bit against PyTorch in tests/parity."""

import math

import pytest

from minigrad import Parameter
from minigrad.errors import MinigradError
from minigrad.optim import (
    SGD,
    Adam,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)


def optimizer(kind=SGD, **options):
    return kind([{"params": [Parameter([1.0])]}, {"params": [Parameter([1.0])], "lr": 0.2}], lr=0.8, **options)


FORMULAS = [
    (lambda o: StepLR(o, 3, 0.5), lambda n: 0.5 ** (n // 3)),
    (lambda o: MultiStepLR(o, [2, 2, 5], 0.1), lambda n: 0.1 ** (2 * (n >= 2) + (n >= 5))),
    (lambda o: ExponentialLR(o, 0.9), lambda n: 0.9**n),
    (lambda o: LinearLR(o, 0.25, 0.75, 8), lambda n: 0.25 + 0.5 * min(n, 8) / 8),
    (lambda o: CosineAnnealingLR(o, 6), lambda n: (1 + math.cos(math.pi * n / 6)) / 2),
    (lambda o: LambdaLR(o, lambda n: 1 / (n + 1)), lambda n: 1 / (n + 1)),
    (lambda o: SequentialLR(o, [LinearLR(o, 0.5, total_iters=4), CosineAnnealingLR(o, 10)], [4]),
     lambda n: 0.5 + n / 8 if n < 4 else (1 + math.cos(math.pi * (n - 4) / 10)) / 2),
]


@pytest.mark.parametrize(("make", "factor"), FORMULAS, ids=range(len(FORMULAS)))
def test_closed_formulas(make, factor):
    given = optimizer()
    schedule = make(given)
    for n in range(14):
        for group, base in zip(given.param_groups, (0.8, 0.2)):
            assert group["lr"] == pytest.approx(base * factor(n), rel=1e-12, abs=1e-16)
        assert schedule.get_last_lr() == [group["lr"] for group in given.param_groups]
        schedule.step()


def test_one_cycle_rises_and_falls_and_momentum_goes_the_other_way():
    for kind, momentum in ((SGD, lambda g: g["momentum"]), (Adam, lambda g: g["betas"][0])):
        given = optimizer(kind, **({"momentum": 0.9} if kind is SGD else {}))
        schedule = OneCycleLR(given, [1.0, 2.0], total_steps=20)
        rates, momenta = [], []
        for _ in range(20):
            rates.append(given.param_groups[1]["lr"])
            momenta.append(momentum(given.param_groups[0]))
            schedule.step()
        top = rates.index(max(rates))
        assert (rates[0], max(rates), rates[-1]) == pytest.approx((2 / 25, 2.0, 2 / 25e4))
        assert rates == sorted(rates[:top]) + sorted(rates[top:], reverse=True)
        assert momenta.index(min(momenta)) == top
        assert (max(momenta), min(momenta)) == pytest.approx((0.95, 0.85))


def test_plateau_counts_steps_without_improvement():
    given = optimizer()
    schedule = ReduceLROnPlateau(given, factor=0.5, patience=2, cooldown=1, min_lr=[0.1, 0.0])
    rates = []
    for loss in (5, 4, 4, 4, 4, 4, 4, 4, 4, 3, 3):
        schedule.step(loss)
        rates.append(given.param_groups[0]["lr"])
    assert rates == [0.8] * 4 + [0.4] * 4 + [0.2] * 3
    assert given.param_groups[1]["lr"] == 0.05


def test_a_saved_optimizer_keeps_the_rate_before_its_schedule():
    given = optimizer()
    StepLR(given, 1, 0.5).step()
    other = optimizer()
    other.load_state_dict(given.state_dict())
    assert other.param_groups[0]["initial_lr"] == 0.8
    assert other.param_groups[0]["lr"] == 0.4
    assert StepLR(other, 1, 0.5, last_epoch=1).base_lrs == [0.8, 0.2]


@pytest.mark.parametrize("make", [
    lambda: StepLR(None, 1), lambda: StepLR(optimizer(), 0), lambda: LinearLR(optimizer(), 0.0),
    lambda: OneCycleLR(optimizer(), 1.0), lambda: OneCycleLR(optimizer(), [1.0], total_steps=3),
    lambda: ReduceLROnPlateau(optimizer(), factor=2.0), lambda: LambdaLR(optimizer(), [abs]),
    lambda: SequentialLR(optimizer(), [], []), lambda: StepLR(optimizer(), 1, last_epoch=3),
])
def test_refusals(make):
    with pytest.raises(MinigradError, match=r"got .*wanted"):
        make()
