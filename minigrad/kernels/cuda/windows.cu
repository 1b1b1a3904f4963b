// Windows over one to three spatial axes: pooling and its adjoints, and the columns of convolution.
//
// Axes that are missing have length 1 and come first. All adjoints gather: a thread looks up the windows that cover its
// element, in the order of the places in the window, so that nothing is added in a random order.

#include "elements.cuh"

struct Windows { int in[3], out[3], kernel[3], stride[3], before[3], dilation[3]; };

// Number i of planes of n[0]·n[1]·n[2] elements.
struct Place {
    int plane, at[3];
    __device__ __forceinline__ Place(unsigned i, const int *n) {
        unsigned row = i / n[2], layer = row / n[1];
        at[2] = i - row * n[2];
        at[1] = row - layer * n[1];
        plane = layer / n[0];
        at[0] = layer - plane * n[0];
    }
};

__device__ __forceinline__ int flat(int a, int b, int c, const int *n) { return (a * n[1] + b) * n[2] + c; }
__device__ __forceinline__ int volume(const int *n) { return n[0] * n[1] * n[2]; }

// The first place of a window along an axis that is not in the padding before the input.
__device__ __forceinline__ int first_inside(int start, int dilation) {
    return start < 0 ? (dilation - 1 - start) / dilation : 0;
}

// Calls visit(k, at) for each place k of the window of output o, and where it lies on the input: -1 in the padding.
template <class Visit> __device__ __forceinline__ void see(const Place &o, const Windows &w, Visit visit) {
    const int a0 = o.at[0] * w.stride[0] - w.before[0], b0 = o.at[1] * w.stride[1] - w.before[1],
              c0 = o.at[2] * w.stride[2] - w.before[2];
    int k = 0;
    for (int i = 0, a = a0; i < w.kernel[0]; i++, a += w.dilation[0])
        for (int j = 0, b = b0; j < w.kernel[1]; j++, b += w.dilation[1])
            for (int l = 0, c = c0; l < w.kernel[2]; l++, c += w.dilation[2], k++) {
                const bool inside = a >= 0 && a < w.in[0] && b >= 0 && b < w.in[1] && c >= 0 && c < w.in[2];
                visit(k, inside ? flat(a, b, c, w.in) : -1);
            }
}

// The outputs along one axis whose windows cover `at`: those from `first` to `last`, and with a dilation not all.
struct Covering {
    int shifted, first, last;
    __device__ __forceinline__ Covering(int at, const Windows &w, int axis) {
        shifted = at + w.before[axis];
        const int rest = shifted - (w.kernel[axis] - 1) * w.dilation[axis];
        first = rest > 0 ? (rest + w.stride[axis] - 1) / w.stride[axis] : 0;
        last = min(w.out[axis] - 1, shifted / w.stride[axis]);
    }
    // Which place of the window of output o it is; -1 for none.
    __device__ __forceinline__ int place(int o, const Windows &w, int axis) const {
        const int t = shifted - o * w.stride[axis], k = w.dilation[axis] == 1 ? t : t / w.dilation[axis];
        return k * w.dilation[axis] == t ? k : -1;
    }
};

// Calls visit(k, o) for each output o whose window has its place k on the input's element.
template <class Visit> __device__ __forceinline__ void seen_by(const Place &x, const Windows &w, Visit visit) {
    const Covering a(x.at[0], w, 0), b(x.at[1], w, 1), c(x.at[2], w, 2);
    for (int i = a.last; i >= a.first; i--) {
        const int ka = a.place(i, w, 0);
        if (ka < 0) continue;
        for (int j = b.last; j >= b.first; j--) {
            const int kb = b.place(j, w, 1);
            if (kb < 0) continue;
            for (int l = c.last; l >= c.first; l--) {
                const int kc = c.place(l, w, 2);
                if (kc >= 0) visit(flat(ka, kb, kc, w.kernel), flat(i, j, l, w.out));
            }
        }
    }
}

// ------------------------------------------------------------------ pooling: x (planes, in), y (planes, out)

extern "C" __global__ void max_pool(const T *x, T *y, int *which, unsigned count, Windows w) {
    FOR_MINE(i, count) {
        const Place o(i, w.out);
        const T *plane = x + (index_t)o.plane * volume(w.in);
        float best = -INFINITE;
        int found = 0;  // of elements as small as the padding, the first on the input
        for (int axis = 0; axis < 3; axis++)
            found = found * w.kernel[axis] +
                    first_inside(o.at[axis] * w.stride[axis] - w.before[axis], w.dilation[axis]);
        see(o, w, [&](int k, int at) {
            const float v = at < 0 ? -INFINITE : to_float(plane[at]);
            if (v > best || (v != v && best == best)) best = v, found = k;
        });
        from_float(best, y[i]);
        which[i] = found;
    }
}

extern "C" __global__ void scatter(const T *g, const int *which, T *out, unsigned count, Windows w) {
    FOR_MINE(i, count) {
        const Place x(i, w.in);
        const index_t plane = (index_t)x.plane * volume(w.out);
        float sum = 0;
        seen_by(x, w, [&](int k, int o) { if (which[plane + o] == k) sum += to_float(g[plane + o]); });
        from_float(sum, out[i]);
    }
}

extern "C" __global__ void pick(const T *x, const int *which, T *y, unsigned count, Windows w) {
    FOR_MINE(i, count) {
        const Place o(i, w.out);
        const T *plane = x + (index_t)o.plane * volume(w.in);
        const int wanted = which[i];
        float value = 0;
        see(o, w, [&](int k, int at) { if (k == wanted && at >= 0) value = to_float(plane[at]); });
        from_float(value, y[i]);
    }
}

extern "C" __global__ void sum_pool(const T *x, T *y, unsigned count, Windows w) {
    FOR_MINE(i, count) {
        const Place o(i, w.out);
        const T *plane = x + (index_t)o.plane * volume(w.in);
        float sum = 0;
        see(o, w, [&](int, int at) { if (at >= 0) sum += to_float(plane[at]); });
        from_float(sum, y[i]);
    }
}

extern "C" __global__ void spread(const T *g, T *out, unsigned count, Windows w) {
    FOR_MINE(i, count) {
        const Place x(i, w.in);
        const T *plane = g + (index_t)x.plane * volume(w.out);
        float sum = 0;
        seen_by(x, w, [&](int, int o) { sum += to_float(plane[o]); });
        from_float(sum, out[i]);
    }
}

// ------------------------------------------------------------------ columns (C·places of the kernel, N, out), N images

extern "C" __global__ void im2col(const T *x, T *columns, int N, int C, unsigned count, Windows w) {
    FOR_MINE(i, count) {  // of (C, N, out), so that neighbours write neighbours
        const Place o(i, w.out);
        const int c = o.plane / N, n = o.plane - c * N, places = volume(w.kernel), length = volume(w.out);
        const T *plane = x + ((index_t)n * C + c) * volume(w.in);
        T *to = columns + (index_t)c * places * N * length + (i - (unsigned)c * N * length);
        see(o, w, [&](int k, int at) {
            T v;
            if (at < 0) from_float(0, v);
            else v = plane[at];
            to[(index_t)k * N * length] = v;
        });
    }
}

extern "C" __global__ void col2im(const T *columns, T *x, int N, int C, unsigned count, Windows w) {
    FOR_MINE(i, count) {  // of (N, C, in)
        const Place p(i, w.in);
        const int n = p.plane / C, c = p.plane - n * C, places = volume(w.kernel), length = volume(w.out);
        float sum = 0;
        seen_by(p, w, [&](int k, int o) { sum += to_float(columns[(((index_t)c * places + k) * N + n) * length + o]); });
        from_float(sum, x[i]);
    }
}

// x (B, A, length) as y (A, B, length), with a number for each b added where there is one.
extern "C" __global__ void exchange(const T *x, const T *bias, T *y, int A, int B, int length, unsigned count) {
    FOR_MINE(i, count) {
        const int plane = i / length, a = plane / B, b = plane - a * B;
        const T v = x[((index_t)b * A + a) * length + (i - (unsigned)plane * length)];
        if (bias) from_float(to_float(v) + to_float(bias[b]), y[i]);
        else y[i] = v;
    }
}
