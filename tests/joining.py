"""How a Sequential that joins neighbours is compared with its modules one by one."""

from minigrad import Observer, Tensor
from minigrad.graph import walk


def operations(model, x):
    """The names of what a call records, in order."""
    return [node.op.name for node in walk([model(Tensor(x, True)).edge])]


def apart(model, x):
    """The same modules one after the other, without their container."""
    for module in model:
        x = module(x)
    return x


def twins(make):
    """Two models of the same numbers."""
    one, two = make(), make()
    two.load_state_dict(one.state_dict())
    return one, two


class Names(Observer):
    """Notes the name of every operation."""

    def __init__(self):
        self.seen = []

    def forward(self, op, *rest):
        self.seen.append(op.name)
