"""Every schedule goes on from a checkpoint as if nothing had happened."""

import pytest

from minigrad import Parameter, optim
from minigrad.io import read_checkpoint, write_checkpoint

MAKERS = {
    "step": lambda o: optim.StepLR(o, 3),
    "multi-step": lambda o: optim.MultiStepLR(o, [2, 5, 5]),
    "exponential": lambda o: optim.ExponentialLR(o, 0.9),
    "linear": optim.LinearLR,
    "cosine": lambda o: optim.CosineAnnealingLR(o, 10),
    "one cycle": lambda o: optim.OneCycleLR(o, 0.5, total_steps=12),
    "lambda": lambda o: optim.LambdaLR(o, lambda epoch: 0.9**epoch),
    "sequence": lambda o: optim.SequentialLR(o, [optim.LinearLR(o), optim.ExponentialLR(o, 0.9)], milestones=[4]),
    "plateau": lambda o: optim.ReduceLROnPlateau(o, patience=1),
}


def make(name):
    optimizer = optim.SGD([Parameter([1.0])], lr=0.1, momentum=0.9)
    return optimizer, MAKERS[name](optimizer)


def rates(optimizer, schedule, name, count):
    found = []
    for _ in range(count):
        (optimizer.param_groups[0]["params"][0] ** 2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step(*([1.0] if name == "plateau" else []))
        found.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["params"][0].item()))
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_a_schedule_goes_on(name, tmp_path):
    whole = rates(*make(name), name, 10)
    optimizer, schedule = make(name)
    assert rates(optimizer, schedule, name, 5) == whole[:5]
    parts = {"optimizer": optimizer, "schedule": schedule}
    weights = {"w": optimizer.param_groups[0]["params"][0]}
    write_checkpoint(tmp_path / "c", {key: each.state_dict() for key, each in parts.items()} | {"model": weights})
    read = read_checkpoint(tmp_path / "c")
    again, following = make(name)
    again.param_groups[0]["params"][0].assign(read["model"]["w"])
    again.load_state_dict(read["optimizer"])
    following.load_state_dict(read["schedule"])
    assert rates(again, following, name, 5) == whole[5:]
