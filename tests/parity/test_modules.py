"""Sequences, embeddings, transposed convolutions and losses as layers, against torch.nn: state, values, gradients."""

import inspect

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from oracle import agree, draw  # noqa: E402

import minigrad  # noqa: E402
from minigrad import layers  # noqa: E402
from minigrad.errors import MinigradError  # noqa: E402


def pair(name, *args, **options):
    """The same layer twice, ours with the parameters of torch's, in float64; both in training mode."""
    ours, theirs = getattr(layers, name)(*args, **options), getattr(torch.nn, name)(*args, **options).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in theirs.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    ours.to("float64")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    return ours, theirs


def compare(ours, theirs, arrays, *args, orders=2, **options):
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        agree(lambda *xs: ours(*xs, *args, **options), lambda *xs: theirs(*xs, *map(as_torch, args), **{
            k: as_torch(v) for k, v in options.items()}), arrays, (list(ours.parameters()), list(theirs.parameters())),
            orders)


def as_torch(x):
    return torch.tensor(x) if isinstance(x, np.ndarray) else x


RECURRENT = [
    ("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("RNN", {"num_layers": 2, "bidirectional": True, "bias": False}),
    ("LSTM", {}), ("LSTM", {"num_layers": 2, "batch_first": True}), ("LSTM", {"bidirectional": True, "bias": False}),
    ("LSTM", {"proj_size": 2, "num_layers": 2, "bidirectional": True}), ("GRU", {}),
    ("GRU", {"bidirectional": True, "num_layers": 2}),
    ("GRU", {"batch_first": True, "bias": False}),
]


@pytest.mark.parametrize("shape", [(4, 2, 3), (1, 1, 3), (3, 3)], ids=str)
@pytest.mark.parametrize(("name", "options"), RECURRENT, ids=str)
def test_recurrent(name, options, shape):
    ours, theirs = pair(name, 3, 4, **options)
    assert repr(ours) == repr(theirs)
    compare(ours, theirs, [draw(*shape)])
    batch = () if len(shape) == 2 else (shape[0] if options.get("batch_first") else shape[1],)
    count = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    h = draw(count, *batch, options.get("proj_size", 4), seed=1)
    if name == "LSTM":
        c = draw(count, *batch, 4, seed=2)
        agree(lambda x, h, c: ours(x, (h, c)), lambda x, h, c: theirs(x, (h, c)), [draw(*shape), h, c],
              (list(ours.parameters()), list(theirs.parameters())))
    else:
        compare(ours, theirs, [draw(*shape), h])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 3), (3,), (0, 3)], ids=str)
@pytest.mark.parametrize(("name", "options"), [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu"}),
                                               ("LSTMCell", {}), ("GRUCell", {})], ids=str)
def test_cells(name, options, shape, bias):
    ours, theirs = pair(name, 3, 4, bias, **options)
    assert repr(ours) == repr(theirs)
    compare(ours, theirs, [draw(*shape)])
    h, c = draw(*shape[:-1], 4, seed=1), draw(*shape[:-1], 4, seed=2)
    if name == "LSTMCell":
        agree(lambda x, h, c: ours(x, (h, c)), lambda x, h, c: theirs(x, (h, c)), [draw(*shape), h, c])
    else:
        compare(ours, theirs, [draw(*shape), h])


def test_dropout_between_layers_acts_in_training_alone():
    ours, theirs = pair("LSTM", 3, 4, num_layers=2, dropout=0.5)
    compare(ours.eval(), theirs.eval(), [draw(4, 2, 3)])
    ours.train()
    x = minigrad.Tensor(draw(4, 2, 3))
    assert not np.array_equal(ours(x)[0].numpy(), ours(x)[0].numpy())
    minigrad.manual_seed(3)
    first = ours(x)[0].numpy()
    minigrad.manual_seed(3)
    np.testing.assert_array_equal(ours(x)[0].numpy(), first)


ATTENTION = [{}, {"bias": False}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 3, "vdim": 5},
             {"batch_first": True},
             {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True}]


@pytest.mark.parametrize("need", [True, False, "each"])
@pytest.mark.parametrize("mask", [None, "attn", "attn numbers", "per head", "padding", "both", "both numbers"])
@pytest.mark.parametrize("options", ATTENTION, ids=str)
def test_multihead_attention(options, mask, need):
    ours, theirs = pair("MultiheadAttention", 4, 2, **options)
    first = options.get("batch_first", False)
    q, k, v = (draw(*((n, 3 if i == 0 else 5)[:: 1 if first else -1]), f, seed=i) for i, (n, f) in
               enumerate(((2, 4), (2, options.get("kdim", 4)), (2, options.get("vdim", 4)))))
    rng = np.random.default_rng(9)
    hidden = rng.random((4, 3, 5) if mask == "per head" else (3, 5)) < 0.4
    hidden[..., 0] = False
    padding = np.array([[False] * 5, [False, True, False, True, True]])
    more = {}
    if mask in ("attn", "per head", "both"):
        more["attn_mask"] = hidden
    elif mask in ("attn numbers", "both numbers"):
        more["attn_mask"] = rng.normal(size=(3, 5))
    if mask in ("padding", "both"):
        more["key_padding_mask"] = padding
    elif mask == "both numbers":
        more["key_padding_mask"] = np.where(padding, -np.inf, 0.0)
    if need == "each":
        more["average_attn_weights"] = False
    compare(ours, theirs, [q, k, v], need_weights=bool(need), **more)


@pytest.mark.parametrize("need", [True, False])
@pytest.mark.parametrize("options", [{}, {"batch_first": True, "add_zero_attn": True}], ids=str)
def test_multihead_attention_of_one_sequence(options, need):
    ours, theirs = pair("MultiheadAttention", 4, 2, **options)
    hidden = np.triu(np.ones((3, 3), bool), 1)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        agree(lambda x: ours(x, x, x, need_weights=need, attn_mask=hidden),
              lambda x: theirs(x, x, x, need_weights=need, attn_mask=torch.tensor(hidden)), [draw(3, 4)],
              (list(ours.parameters()), list(theirs.parameters())))
        if not options:  # with zeros added, torch hides those too, but only where weights are not needed
            agree(lambda x: ours(x, x, x, need_weights=need, is_causal=True),
                  lambda x: theirs(x, x, x, need_weights=need, attn_mask=torch.tensor(hidden), is_causal=True),
                  [draw(3, 4)])


@pytest.mark.parametrize("options", [{}, {"activation": "gelu", "norm_first": True},
                                     {"bias": False, "batch_first": True}, {"layer_norm_eps": 0.1}],
                         ids=str)
@pytest.mark.parametrize("shape", [(3, 2, 4), (3, 4)], ids=str)
def test_transformer_block(options, shape):
    ours, theirs = pair("TransformerEncoderLayer", 4, 2, 6, 0.0, **options)
    compare(ours, theirs, [draw(*shape)])
    length = shape[1] if options.get("batch_first") and len(shape) == 3 else shape[0]
    hidden = np.triu(np.ones((length, length), bool), 1)
    compare(ours, theirs, [draw(*shape)], src_mask=hidden)
    x = minigrad.Tensor(draw(*shape))
    np.testing.assert_allclose(ours(x, is_causal=True).numpy(), ours(x, hidden).numpy(), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_transformer_encoder():
    ours = layers.TransformerEncoder(layers.TransformerEncoderLayer(4, 2, 6, 0.0), 2, layers.LayerNorm(4)).to("float64")
    theirs = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(4, 2, 6, 0.0), 2,
                                         torch.nn.LayerNorm(4)).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    compare(ours, theirs, [draw(3, 2, 4)], src_key_padding_mask=np.array([[False, False, True], [False] * 3]))


SPATIAL = [
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1}, (2, 4, 7)),
    ("Conv1d", (4, 6, 3), {"padding": "same", "groups": 2}, (4, 7)),
    ("Conv3d", (2, 4, (1, 2, 2)), {"dilation": (1, 2, 1), "bias": False}, (1, 2, 3, 4, 4)),
    *[("Conv2d", (2, 3, (2, 3)), {"padding": padding, "padding_mode": mode}, (2, 2, 5, 5))
      for mode in ("reflect", "replicate", "circular") for padding in (1, (0, 2), "same")],
    ("Conv1d", (2, 3, 4), {"padding": "same", "padding_mode": "circular", "dilation": 2}, (2, 7)),
    ("ConvTranspose1d", (4, 2, 3), {"stride": 2, "output_padding": 1}, (2, 4, 5)),
    ("ConvTranspose2d", (4, 6, (2, 3)), {"stride": (2, 1), "padding": 1, "groups": 2, "bias": False}, (2, 4, 3, 4)),
    ("ConvTranspose2d", (4, 2, 3), {"dilation": 2}, (4, 3, 3)), ("ConvTranspose3d", (2, 2, 2), {}, (1, 2, 2, 3, 2)),
    ("MaxPool1d", (2,), {}, (2, 3, 7)), ("MaxPool3d", (2, 1), {"ceil_mode": True}, (1, 2, 3, 4, 4)),
    ("AvgPool1d", (3, 2, 1), {}, (2, 3, 7)),
    ("AvgPool3d", (2,), {}, (1, 2, 4, 4, 4)), ("AdaptiveAvgPool1d", (3,), {}, (2, 3, 7)),
    ("AdaptiveAvgPool3d", ((1, 2, None),), {}, (2, 3, 4, 3)),
    ("Unfold", (2,), {"padding": 1}, (2, 3, 4, 4)), ("Fold", ((4, 4), 2), {"stride": 2}, (2, 8, 4)),
    ("ELU", (0.5,), {}, (3, 4)), ("ReLU6", (), {}, (3, 4)), ("Mish", (), {}, (3, 4)), ("LogSigmoid", (), {}, (3, 4)),
    ("Hardtanh", (-0.5, 0.3), {}, (3, 4)),
]


@pytest.mark.parametrize(("name", "args", "options", "shape"), SPATIAL, ids=str)
def test_spatial_layers_and_activations(name, args, options, shape):
    ours, theirs = pair(name, *args, **options)
    if not name.endswith(("Pool1d", "Pool3d")):
        assert repr(ours) == repr(theirs)
    compare(ours, theirs, [draw(*shape)])


@pytest.mark.parametrize("size", [(9, 9), (10, 9), (2, 3, 9, 10)], ids=str)
def test_output_size_of_a_transposed_convolution(size):
    ours, theirs = pair("ConvTranspose2d", 4, 3, 3, stride=2, padding=(1, 2))
    compare(ours, theirs, [draw(2, 4, 5, 6)], list(size))


@pytest.mark.parametrize("options", [{}, {"padding_idx": 1}, {"padding_idx": -1}, {"scale_grad_by_freq": True}],
                         ids=str)
def test_embedding(options):
    ours, theirs = pair("Embedding", 5, 3, **options)
    assert repr(ours) == repr(theirs)
    compare(ours, theirs, [np.array([[0, 1, 4], [4, 4, 1]])], orders=1)
    made, wanted = layers.Embedding(5, 3, **options), torch.nn.Embedding(5, 3, **options)
    np.testing.assert_array_equal((made.weight.numpy() == 0).all(1), (wanted.weight.detach().numpy() == 0).all(1))


def test_embedding_from_a_table():
    table = draw(5, 3)
    ours = layers.Embedding.from_pretrained(minigrad.Tensor(table), padding_idx=2)
    assert not ours.weight.requires_grad
    np.testing.assert_array_equal(ours(minigrad.Tensor([2, 0])).numpy(), table[[2, 0]])


LOSSES = [
    ("L1Loss", {}), ("SmoothL1Loss", {"beta": 0.5}), ("HuberLoss", {"delta": 0.5}), ("BCEWithLogitsLoss", {}),
    ("MSELoss", {}),
    ("BCEWithLogitsLoss", {"pos_weight": np.array([1.0, 2.0, 3.0, 4.0])}),
    ("BCELoss", {"weight": np.array([1.0, 2.0, 3.0, 4.0])}),
    ("KLDivLoss", {"log_target": True}), ("KLDivLoss", {}),
]


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "options"), LOSSES, ids=str)
def test_losses(name, options, reduction):
    ours = getattr(layers, name)(reduction=reduction, **options)
    theirs = getattr(torch.nn, name)(reduction=reduction, **{k: as_torch(v) for k, v in options.items()})
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = np.random.default_rng(0).uniform(0.1, 0.9, (3, 4)) if name in ("BCELoss", "KLDivLoss") else draw(3, 4)
    t = np.random.default_rng(1).uniform(0.1, 0.9, (3, 4))
    compare(ours, theirs, [x, t])


@pytest.mark.parametrize("options", [{}, {"ignore_index": 1}, {"weight": np.array([1.0, 2.0, 0.5])},
                                     {"reduction": "none"}], ids=str)
def test_negative_log_likelihood(options):
    ours = layers.NLLLoss(**options)
    theirs = torch.nn.NLLLoss(**{k: as_torch(v) for k, v in options.items()})
    assert list(ours.state_dict()) == list(theirs.state_dict())
    compare(ours, theirs, [draw(4, 3), np.array([0, 1, 2, 1])])


NAMES = ("Conv1d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "MaxPool1d", "MaxPool3d",
         "AvgPool1d", "AvgPool3d",
         "AdaptiveAvgPool1d", "AdaptiveAvgPool3d", "Unfold", "Fold", "ELU", "ReLU6", "Mish", "Hardtanh", "Embedding",
         "MultiheadAttention",
         "TransformerEncoderLayer", "RNNCell", "LSTMCell", "GRUCell", "HuberLoss")


@pytest.mark.parametrize("name", NAMES)
def test_signatures(name):
    """Arguments have torch's names, order and defaults; what we add comes last."""
    def arguments(kind):
        return {p.name: p for p in inspect.signature(kind.__init__).parameters.values() if p.name != "self"}

    mine, wanted = arguments(getattr(layers, name)), arguments(getattr(torch.nn, name))
    wanted = {n: p for n, p in wanted.items() if n not in ("min_value", "max_value")}  # deprecated
    assert list(mine)[: len(wanted)] == list(wanted)
    for argument in wanted:
        if argument not in ("dtype", "activation"):  # ours name float32, and the function by its name
            assert mine[argument].default == wanted[argument].default, argument


@pytest.mark.parametrize(("name", "args", "options"), [
    ("Conv1d", (20, 50, 5), {}), ("Conv3d", (8, 20, 3), {}), ("ConvTranspose2d", (20, 50, 5), {}),
    ("ConvTranspose1d", (20, 60, 9), {"groups": 2}),
    ("Embedding", (100, 60), {}), ("RNN", (30, 50), {"num_layers": 2}), ("LSTM", (30, 50), {}),
    ("GRU", (30, 50), {"bidirectional": True}),
    ("LSTMCell", (30, 50), {}), ("MultiheadAttention", (60, 4), {"add_bias_kv": True}),
    ("MultiheadAttention", (60, 4), {"kdim": 40, "vdim": 80}),
    ("TransformerEncoderLayer", (60, 4, 100), {}),
])
def test_initial_distributions(name, args, options):
    ours, theirs = getattr(layers, name)(*args, **options), getattr(torch.nn, name)(*args, **options)
    for (path, mine), wanted in zip(ours.named_parameters(), theirs.parameters()):
        a, b = mine.numpy(), wanted.detach().numpy()
        assert a.shape == b.shape
        assert (a.std() == 0) == (b.std() == 0), path
        if b.std():
            assert abs(a.var() / b.var() - 1) < 8 * (1.6 / a.size) ** 0.5, path
            uniform = abs(b).max() / b.std() < 1.9
            assert not uniform or abs(abs(a).max() / abs(b).max() - 1) < 12 / a.size + 2e-2, path


@pytest.mark.parametrize(("name", "args", "shapes"), [
    ("LSTM", (3, 4), [(2, 5)]), ("LSTM", (3, 4), [(2, 2, 2, 3)]), ("GRU", (3, 4), [(2, 1, 3), (2, 1, 4)]),
    ("RNN", (3, 4), [(0, 1, 3)]),
    ("LSTMCell", (3, 4), [(2, 4)]), ("GRUCell", (3, 4), [(2, 3), (3, 4)]), ("RNNCell", (3, 4), [(2, 2, 3)]),
    ("MultiheadAttention", (4, 2), [(3, 2, 4), (3, 1, 4), (3, 1, 4)]),
    ("MultiheadAttention", (4, 2), [(3, 2, 4), (5, 2, 4), (3, 2, 4)]),
    ("MultiheadAttention", (4, 2), [(3, 2, 5), (3, 2, 5), (3, 2, 5)]),
    ("MultiheadAttention", (4, 2), [(3, 4), (2, 3, 4), (2, 3, 4)]),
    ("Conv1d", (3, 2, 3), [(1, 2, 5)]), ("Conv3d", (3, 2, 3), [(1, 3, 2, 5, 5)]),
    ("ConvTranspose2d", (3, 2, 3), [(1, 2, 5, 5)]),
    ("Hardtanh", (1.0, 1.0), [(1,)]), ("LSTM", (3, 0), [(1, 1, 3)]), ("MultiheadAttention", (5, 2), [(1, 1, 5)] * 3),
    ("Embedding", (3, 2, 5), [(1,)]), ("Embedding", (-1, 2), [(1,)]), ("LSTMCell", (3, -1), [(1, 3)]),
    ("LSTM", (3, 1.5), [(1, 1, 3)]), ("Linear", (3, -2), [(1, 3)]), ("Flatten", (1, 2), [()]),
    ("RNN", (3, 4, 1, "elu"), [(1, 1, 3)]),
    ("GRU", (3, 4, 2, True, False, 1.5), [(1, 1, 3)]),
    ("L1Loss", (), [(2,)]),
])
def test_what_torch_refuses_we_refuse(name, args, shapes):
    with pytest.raises((ValueError, RuntimeError, AssertionError, TypeError, IndexError)):
        getattr(torch.nn, name)(*args)(*(torch.ones(s) for s in shapes))
    with pytest.raises((MinigradError, TypeError), match=r"got|missing"):
        getattr(layers, name)(*args)(*(minigrad.ones(s) for s in shapes))


def test_errors_name_the_layer():
    model = layers.Sequential(layers.Linear(3, 4), layers.LSTM(5, 2))
    with pytest.raises(MinigradError, match=r"forward in layer 1 \(LSTM\): got input \(2, 4\)"):
        model(minigrad.ones(2, 3))


def test_numbers_are_drawn_from_the_generator_given():
    for make in (lambda g: layers.LSTM(3, 4, generator=g), lambda g: layers.Embedding(3, 4, generator=g),
                 lambda g: layers.MultiheadAttention(4, 2, generator=g), lambda g: layers.Conv3d(1, 2, 2, generator=g),
                 lambda g: layers.TransformerEncoderLayer(4, 2, 5, generator=g)):
        first, second = (make(minigrad.Generator(5)) for _ in range(2))
        for a, b in zip(first.parameters(), second.parameters()):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
