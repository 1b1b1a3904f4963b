"""The operations again, in plain float64 NumPy, written to be obviously right."""

import itertools
import math

import numpy as np

erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def logsumexp(x, axis=None, keepdims=False):
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def softmax(x, axis=-1):
    return np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)


def cross_entropy(x, q, reduce):
    losses = -(q * np.log(softmax(x, 1))).sum(1)
    return losses.sum() if reduce else losses


def flatten(x, start_dim=0, end_dim=-1):
    end = end_dim % x.ndim
    return x.reshape(*x.shape[:start_dim], math.prod(x.shape[start_dim : end + 1]), *x.shape[end + 1 :])


def index_add(x, key, shape):
    y = np.zeros(shape, x.dtype)
    np.add.at(y, key, x)
    return y


def norm(x, ord=2, axis=None, keepdims=False):
    return np.linalg.vector_norm(x, ord=ord, axis=axis, keepdims=keepdims)


def argsort(x, axis=-1, descending=False):
    return np.argsort(-x if descending else x, axis=axis, kind="stable")


def gather(x, axis, indices):
    y = np.zeros(indices.shape, x.dtype)
    for place in np.ndindex(indices.shape):
        y[place] = x[(*place[:axis], indices[place], *place[axis + 1 :])]
    return y


def scatter_add(x, axis, indices, source):
    y = x.copy()
    for place in np.ndindex(indices.shape):
        y[(*place[:axis], indices[place], *place[axis + 1 :])] += source[place]
    return y


def padded(x, padding, fill=0.0):
    return np.pad(x, ((0, 0), (0, 0), *padding), constant_values=fill)


def convolution(x, w, b=None, stride=None, padding=None, dilation=None, groups=1):
    """Every output element by itself: the sum over the window that it sees, times its kernel."""
    axes = x.ndim - 2
    stride, dilation = stride or (1,) * axes, dilation or (1,) * axes
    x = padded(x, padding or ((0, 0),) * axes)
    span = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:])]
    lengths = [(n - e) // s + 1 for n, e, s in zip(x.shape[2:], span, stride)]
    y = np.zeros((x.shape[0], w.shape[0], *lengths))
    outs, ins = w.shape[0] // groups, w.shape[1]
    for o in range(w.shape[0]):
        channels = slice(o // outs * ins, (o // outs + 1) * ins)
        for place in itertools.product(*map(range, lengths)):
            window = tuple(slice(p * s, p * s + e, d) for p, s, e, d in zip(place, stride, span, dilation))
            seen = x[(slice(None), channels, *window)]
            y[(slice(None), o, *place)] = (seen * w[o]).sum(axis=tuple(range(1, x.ndim)))
    return y if b is None else y + b.reshape(-1, *(1,) * axes)


def convolution_transpose(x, w, b, stride, padding, output_padding, dilation, groups):
    """Every input element spread over its window, one at a time; then the rim is cut off."""
    full = [(n - 1) * s + d * (k - 1) + 1 + o for n, s, d, k, o in
            zip(x.shape[2:], stride, dilation, w.shape[2:], output_padding)]
    outs, ins = w.shape[1], w.shape[0] // groups
    y = np.zeros((x.shape[0], outs * groups, *full))
    for c in range(w.shape[0]):
        channels = slice(c // ins * outs, (c // ins + 1) * outs)
        for place in itertools.product(*map(range, x.shape[2:])):
            window = tuple(slice(p * s, p * s + d * (k - 1) + 1, d)
                           for p, s, d, k in zip(place, stride, dilation, w.shape[2:]))
            here = x[(slice(None), c, *place)].reshape(-1, *(1,) * (w.ndim - 1))
            y[(slice(None), channels, *window)] += here * w[c]
    y = y[(slice(None), slice(None), *(slice(p, n - p) for p, n in zip(padding, full)))]
    return y if b is None else y + b.reshape(-1, *(1,) * len(full))


def _starts(spatial, kernel, stride, padding, dilation):
    lengths = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p,
               d in zip(spatial, kernel, stride, padding, dilation)]
    for place in itertools.product(*map(range, lengths)):
        yield tuple(slice(i * s, i * s + d * (k - 1) + 1, d) for i, s, d, k in zip(place, stride, dilation, kernel))


def unfold(x, kernel, stride, padding, dilation):
    wide = padded(x, [(p, p) for p in padding])
    return np.stack([wide[(slice(None), slice(None), *window)].reshape(len(x),
                                                                       -1 if len(x) else x.shape[1] * math.prod(kernel))
                     for window in _starts(x.shape[2:], kernel, stride, padding, dilation)], axis=-1).astype(x.dtype)


def fold(x, spatial, kernel, stride, padding, dilation):
    channels = x.shape[1] // math.prod(kernel)
    y = np.zeros((x.shape[0], channels, *(n + 2 * p for n, p in zip(spatial, padding))), x.dtype)
    for column, window in enumerate(_starts(spatial, kernel, stride, padding, dilation)):
        y[(slice(None), slice(None), *window)] += x[..., column].reshape(x.shape[0], channels, *kernel)
    return y[(slice(None), slice(None), *(slice(p, p + n) for n, p in zip(spatial, padding)))]


def attention(q, k, v, mask=0.0, scale=None):
    weights = softmax(q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale) + mask)
    return weights @ v, weights


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(a, c):
    i, f, g, o = np.split(a, 4, -1)
    new = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(new), new


def gru_step(a, b, h):
    (ar, az, an), (br, bz, bn) = np.split(a, 3, -1), np.split(b, 3, -1)
    z = _sigmoid(az + bz)
    return (1 - z) * np.tanh(an + _sigmoid(ar + br) * bn) + z * h


def pool(x, choose, fill, kernel, stride, padding):
    """`choose` (np.max, np.mean) of every window of the padded input."""
    x = padded(x, [(p, p) for p in padding], fill)
    lengths = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, stride)]
    y = np.zeros((*x.shape[:2], *lengths))
    for place in itertools.product(*map(range, lengths)):
        window = tuple(slice(p * s, p * s + k) for p, s, k in zip(place, stride, kernel))
        y[(slice(None), slice(None), *place)] = choose(x[(slice(None), slice(None), *window)],
                                                       axis=tuple(range(2, x.ndim)))
    return y


def _affine(y, w, b, shape):
    y = y if w is None else y * w.reshape(shape)
    return y if b is None else y + b.reshape(shape)


def batch_norm(x, w=None, b=None, eps=1e-5):
    """(y, mean, biased variance, 1/√(variance + eps))"""
    axes = (0, *range(2, x.ndim))
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    r = 1 / np.sqrt(variance + eps)
    return _affine((x - mean) * r, w, b, mean.shape), mean, variance, r


def linear_batch_norm(x, w, b, weight, bias, eps=1e-5):
    """The four results of `batch_norm` for x·wᵀ + b, the first through the logistic function."""
    y, *statistics = batch_norm(x @ w.T + b, weight, bias, eps)
    return 1 / (1 + np.exp(-y)), *statistics


def batch_norm_inference(x, mean, variance, w=None, b=None, eps=1e-5):
    shape = (1, x.shape[1], *(1,) * (x.ndim - 2))
    return _affine((x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + eps), w, b, shape)


def layer_norm(x, count, w=None, b=None, eps=1e-5):
    """Over the last `count` axes."""
    axes = tuple(range(-count, 0))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    return _affine(y, w, b, x.shape[-count:])


def group_norm(x, groups, w=None, b=None, eps=1e-5):
    """Every group of every example by itself."""
    y = np.empty_like(x)
    size = x.shape[1] // groups
    for n in range(x.shape[0]):
        for g in range(groups):
            part = x[n, g * size : (g + 1) * size]
            y[n, g * size : (g + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + eps)
    return _affine(y, w, b, (1, x.shape[1], *(1,) * (x.ndim - 2)))


def instance_norm(x, w=None, b=None, eps=1e-5):
    """(y, mean, biased variance, 1/√(variance + eps))"""
    axes = tuple(range(2, x.ndim))
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    r = 1 / np.sqrt(variance + eps)
    return _affine((x - mean) * r, w, b, (1, x.shape[1], *(1,) * (x.ndim - 2))), mean, variance, r


def rms_norm(x, count, w=None, eps=1e-5):
    """Over the last `count` axes."""
    y = x / np.sqrt((x * x).mean(tuple(range(-count, 0)), keepdims=True) + eps)
    return y if w is None else y * w


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    """Every channel by itself, with the neighbours that exist."""
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        window = x[:, max(0, c - size // 2) : c + (size - 1) // 2 + 1]
        y[:, c] = x[:, c] / (k + alpha * (window**2).sum(1) / size) ** beta
    return y


def masked_norm(x, mask, axes, shape, w=None, b=None, eps=1e-5):
    """Statistics of what the mask counts, set by set; 0 elsewhere."""
    mask = np.broadcast_to(mask, x.shape)
    y = np.zeros_like(x)
    others = [i for i in range(x.ndim) if i not in axes]
    for place in itertools.product(*(range(x.shape[i]) for i in others)):
        key = [slice(None)] * x.ndim
        for i, p in zip(others, place):
            key[i] = p
        counted = x[tuple(key)][mask[tuple(key)]]
        if counted.size:
            y[tuple(key)] = (x[tuple(key)] - counted.mean()) / np.sqrt(counted.var() + eps)
    return np.where(mask, _affine(y, w, b, shape), 0.0)
