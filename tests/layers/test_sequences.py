"""Recurrent networks, attention, transformers, embeddings and transposed convolutions against plain NumPy."""

import numpy as np
import pytest
import references as ref
from cases import relative

import minigrad
from minigrad import Tensor, layers
from minigrad.errors import MinigradError
from minigrad.gradcheck import check_gradients


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step(kind, x, state, w):
    a = x @ w["weight_ih"].T + w["bias_ih"]
    b = state[0] @ w["weight_hh"].T + w["bias_hh"]
    if kind == "RNN":
        return (np.tanh(a + b),)
    if kind == "LSTM":
        return ref.lstm_step(a + b, state[1])
    return (ref.gru_step(a, b, state[0]),)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_layers_over_a_sequence_in_both_directions(kind):
    model = getattr(layers, kind)(3, 4, num_layers=2, bidirectional=True).to("float64")
    held = {name: p.numpy() for name, p in model.named_parameters()}
    x = draw(5, 2, 3)
    y, last = x, []
    for layer in range(2):
        sides = []
        for suffix in (f"_l{layer}", f"_l{layer}_reverse"):
            w = {name.removesuffix(suffix): p for name, p in held.items() if name.endswith(suffix)}
            state, found = (np.zeros((2, 4)),) * (2 if kind == "LSTM" else 1), []
            for t in range(5) if "reverse" not in suffix else reversed(range(5)):
                state = step(kind, y[t], state, w)
                found.append(state[0])
            sides.append(np.stack(found[::-1] if "reverse" in suffix else found))
            last.append(state)
        y = np.concatenate(sides, -1)
    out, final = model(Tensor(x))
    assert relative(out.numpy(), y) < 1e-13
    for k, part in enumerate(final if kind == "LSTM" else (final,)):
        assert relative(part.numpy(), np.stack([s[k] for s in last])) < 1e-13
    arrays = model(x)[0]  # arrays without a Tensor go through too, but parameters are Tensors
    assert relative(arrays.numpy(), y) < 1e-13


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_a_layer_is_its_cell_step_by_step(kind):
    cell = getattr(layers, kind)(3, 4).to("float64")
    layer = getattr(layers, kind.removesuffix("Cell"))(3, 4).to("float64")
    layer.load_state_dict({f"{name}_l0": t for name, t in cell.state_dict().items()})
    x, state = Tensor(draw(4, 2, 3)), None
    for t in range(4):
        state = cell(x[t], state)
    end = layer(x)[1]
    for a, b in zip(*((s if isinstance(s, tuple) else (s,)) for s in (state, end))):
        assert relative(a.numpy(), b.numpy()[0]) < 1e-14


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_derivatives_through_time(kind):
    model = getattr(layers, kind)(2, 3).to("float64")
    check_gradients(lambda x: model(x)[0], draw(3, 2, 2), 3)


def test_attention_in_heads():
    model = layers.MultiheadAttention(4, 2, batch_first=True).to("float64")
    x, w, b = draw(2, 3, 4), model.in_proj_weight.numpy(), model.in_proj_bias.numpy()
    q, k, v = (part.reshape(2, 3, 2, 2).transpose(0, 2, 1, 3) for part in np.split(x @ w.T + b, 3, -1))
    seen = np.where(np.tril(np.ones((3, 3), bool)), 0, -np.inf)
    y, weights = ref.attention(q, k, v, seen)
    y = y.transpose(0, 2, 1, 3).reshape(2, 3, 4) @ model.out_proj.weight.numpy().T + model.out_proj.bias.numpy()
    found, given = model(*(Tensor(x),) * 3, is_causal=True)
    assert relative(found.numpy(), y) < 1e-13
    assert relative(given.numpy(), weights.mean(1)) < 1e-13
    check_gradients(lambda x: model(x, x, x)[0], draw(1, 3, 4), 2)


def test_a_query_that_sees_nothing_gives_0_and_no_nan():
    q = Tensor(draw(2, 3), requires_grad=True)
    y = minigrad.functional.scaled_dot_product_attention(q, draw(4, 3, seed=1), draw(4, 2, seed=2),
                                                         np.array([[False] * 4, [True] * 4]))
    np.testing.assert_array_equal(y.numpy()[0], [0, 0])
    (g,) = minigrad.grad((y * y).sum(), q, create_graph=True)
    (h,) = minigrad.grad(g.sum(), q)
    assert np.isfinite(g.numpy()).all()
    assert np.isfinite(h.numpy()).all()


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_block(norm_first):
    block = layers.TransformerEncoderLayer(4, 2, 6, 0.0, "gelu", batch_first=True, norm_first=norm_first).to("float64")
    x = Tensor(draw(2, 3, 4))

    def attention(t):
        return block.self_attn(t, t, t)[0]

    def network(t):
        return block.linear2(minigrad.functional.gelu(block.linear1(t)))

    if norm_first:
        y = x + attention(block.norm1(x))
        y = y + network(block.norm2(y))
    else:
        y = block.norm1(x + attention(x))
        y = block.norm2(y + network(y))
    assert relative(block(x).numpy(), y.numpy()) < 1e-14
    other = layers.TransformerEncoderLayer(4, 2, 6, norm=layers.Identity)
    assert isinstance(other.norm1, layers.Identity)


def test_embedding_looks_up_and_adds_up():
    table = layers.Embedding(5, 3, padding_idx=1).to("float64")
    i = np.array([[0, 1], [4, 4]])
    y = table(Tensor(i))
    np.testing.assert_array_equal(y.numpy(), table.weight.numpy()[i])
    y.sum().backward()
    np.testing.assert_array_equal(table.weight.grad.numpy(), np.array([1, 0, 0, 0, 2])[:, None] * np.ones(3))


@pytest.mark.parametrize(("axes", "shape"), [(1, (2, 4, 5)), (2, (2, 4, 3, 4)), (3, (1, 4, 2, 3, 2))])
def test_transposed_convolution_is_the_adjoint(axes, shape):
    """⟨convolution(x), y⟩ = ⟨x, transposed(y)⟩ with the same weight."""
    down = getattr(layers, f"Conv{axes}d")(2, 4, 2, stride=2, padding=1, bias=False).to("float64")
    up = getattr(layers, f"ConvTranspose{axes}d")(4, 2, 2, stride=2, padding=1, bias=False).to("float64")
    up.load_state_dict(down.state_dict())
    y = draw(*shape)
    spread = up(Tensor(y)).numpy()
    x = draw(*spread.shape, seed=1)
    assert np.sum(down(Tensor(x)).numpy() * y) == pytest.approx(np.sum(x * spread), rel=1e-12)


@pytest.mark.parametrize(("make", "shape", "said"), [
    (lambda: layers.LSTM(3, 4), (2, 5), "two or three axes, the last of length 3"),
    (lambda: layers.GRU(3, 4), (0, 1, 3), "at least one step"), (lambda: layers.GRUCell(3, 4), (2, 4), r"\(N, 3\)"),
    (lambda: layers.Embedding(3, 2), (2,), "integers"), (lambda: layers.Conv3d(1, 1, 2), (1, 4, 4),
                                                         "3 spatial axes"),
])
def test_refusals_name_the_layer(make, shape, said):
    model = layers.Sequential(make())
    with pytest.raises(MinigradError, match=said) as caught:
        model(minigrad.ones(*shape))
    assert "in layer 0 (" in str(caught.value)
