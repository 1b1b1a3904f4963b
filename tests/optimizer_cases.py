"""What kernels of optimizers are tested with on every device: options, and shapes of parameters."""

import itertools

from minigrad.optim import SGD, Adam, AdamW

SGDS = [{"lr": 0.1, "momentum": momentum, "dampening": dampening, "weight_decay": decay, "nesterov": nesterov,
         "maximize": maximize}
        for momentum, dampening, decay, nesterov, maximize
        in itertools.product((0, 0.9), (0, 0.25), (0, 0.03), (False, True), (False, True))
        if not nesterov or (momentum and not dampening)]
ADAMS = [{"lr": 0.01, "betas": (0.85, 0.97), "weight_decay": decay, "amsgrad": amsgrad, "maximize": maximize}
         for decay, amsgrad, maximize in itertools.product((0, 0.03), (False, True), (False, True))]
ALL = [*[(SGD, o) for o in SGDS], *[(cls, o) for cls in (Adam, AdamW) for o in ADAMS]]
SOME = [(SGD, SGDS[0]), (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.25, "weight_decay": 0.03}),
        (Adam, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.03}), (AdamW, {"lr": 0.01})]
SHAPES = [(7, 5), (33,), (), (2, 3, 4)]


def name(value):
    return value.__name__ if isinstance(value, type) else " ".join(f"{k}={v}" for k, v in value.items() if v)
