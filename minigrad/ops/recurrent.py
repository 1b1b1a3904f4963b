"""What the cells of recurrent networks do element by element, each as one node."""

from __future__ import annotations

from typing import Any

from minigrad.backend import namespace
from minigrad.errors import ShapeError
from minigrad.op import Op, apply, inputs, outputs
from minigrad.ops.activation import sigmoid

__all__ = ["gru_step", "lstm_step"]


def _parts(a, count):
    """Equal parts of the last axis."""
    n = a.shape[-1] // count
    return [a[..., i * n : (i + 1) * n] for i in range(count)]


class LSTMStep(Op):
    """c′ = σ(f)·c + σ(i)·tanh g,  h′ = σ(o)·tanh c′,  i, f, g, o side by side in a   (Hochreiter & Schmidhuber, 1997)

    With t = tanh c′ and G = gc′ + gh′·σ(o)·(1 − t²):  gc = G·σ(f),  gi = G·tanh g·σ′(i),  gf = G·c·σ′(f),
    gg = G·σ(i)·(1 − tanh² g),  go = gh′·t·σ′(o),  where σ′ = σ·(1 − σ).
    """

    n_out = 2
    keeps = inputs(0, 1) + outputs(1)
    promotes = True

    def forward(self, a, c):
        xp = namespace(a)
        i, f, g, o = _parts(a, 4)
        new = sigmoid(f) * c + sigmoid(i) * xp.tanh(g)
        return sigmoid(o) * xp.tanh(new), new

    def backward(self, saved, needs, gh, gc):
        a, c, new = saved
        xp = namespace(a)
        i, f, g, o = _parts(a, 4)
        i, f, g, o, t = sigmoid(i), sigmoid(f), xp.tanh(g), sigmoid(o), xp.tanh(new)
        total = gc
        if gh is not None:
            through = gh * o * (1 - t * t)
            total = through if gc is None else gc + through
        g_o = total * 0.0 if gh is None else gh * t * (o * (1 - o))
        ga = xp.concat([total * g * (i * (1 - i)), total * c * (f * (1 - f)), total * i * (1 - g * g), g_o], axis=-1)
        return ga, total * f


class GRUStep(Op):
    """h′ = (1 − z)·n + z·h,  r = σ(aᵣ + bᵣ),  z = σ(a_z + b_z),  n = tanh(aₙ + r·bₙ)      (Cho et al., arXiv:1406.1078)

    With G = gh′·(1 − z)·(1 − n²):  gaₙ = G,  gbₙ = G·r,  gaᵣ = gbᵣ = G·bₙ·r·(1 − r),  gh = gh′·z,
    ga_z = gb_z = gh′·(h − n)·z·(1 − z). The three parts of a and b stand side by side, in the order r, z, n.
    """

    keeps = inputs(0, 1, 2)
    promotes = True

    def forward(self, a, b, h):
        _, z, n, _ = self._gates(a, b)
        return (1 - z) * n + z * h

    def _gates(self, a, b):
        (ar, az, an), (br, bz, bn) = _parts(a, 3), _parts(b, 3)
        r = sigmoid(ar + br)
        return r, sigmoid(az + bz), namespace(a).tanh(an + r * bn), bn

    def backward(self, saved, needs, gy):
        a, b, h = saved
        xp = namespace(gy)
        r, z, n, bn = self._gates(a, b)
        gn = gy * (1 - z) * (1 - n * n)
        gr, gz = gn * bn * (r * (1 - r)), gy * (h - n) * (z * (1 - z))
        return xp.concat([gr, gz, gn], axis=-1), xp.concat([gr, gz, gn * r], axis=-1), gy * z


_LSTM, _GRU = LSTMStep(), GRUStep()


def lstm_step(a: Any, c: Any) -> tuple[Any, Any]:
    """One step of a long short-term memory, from the sums that its gates receive.

    Parameters
    ----------
    a : (…, 4·hidden)
        Of input, forget, cell and output gate, side by side.
    c : (…, hidden)

    Returns
    -------
    h, c : (…, hidden)
    """
    if tuple(a.shape) != (*c.shape[:-1], 4 * c.shape[-1]):
        raise ShapeError("lstm_step", got=f"gates {tuple(a.shape)}, cell {tuple(c.shape)}",
                         wanted="(…, 4·hidden) and (…, hidden)")
    h, new = apply(_LSTM, a, c)
    return h, new


def gru_step(a: Any, b: Any, h: Any) -> Any:
    """One step of a gated recurrent unit, from the sums that its gates receive.

    Parameters
    ----------
    a, b : (…, 3·hidden)
        From the input and from the hidden state: of reset gate, update gate and new state, side by side.
    h : (…, hidden)

    Returns
    -------
    (…, hidden)
    """
    if not tuple(a.shape) == tuple(b.shape) == (*h.shape[:-1], 3 * h.shape[-1]):
        raise ShapeError("gru_step", got=f"gates {tuple(a.shape)} and {tuple(b.shape)}, state {tuple(h.shape)}",
                         wanted="(…, 3·hidden) twice and (…, hidden)")
    return apply(_GRU, a, b, h)
