// BatchNorm in evaluation, an affine map of x (N, C, L) with given statistics: y = γ·(x - μ)·r + β with r = (σ² + ε)^-½.
//
// Beside what normalization.cuh wants, compiled with
//
//     COLUMNS 0: a pack lies in one channel;  1: there are no places (L = 1), and a pack has neighbouring channels

#include "normalization.cuh"

// γ·r of channel c
__device__ __forceinline__ float slope(const float *variance, const float *weight, int c, float eps) {
    return 1.0f / sqrtf(variance[c] + eps) * (weight ? weight[c] : 1.0f);
}

// The map; with μ and β absent and gy for x it gives gx. `packs` are those of one channel of one example, or of a row.
extern "C" __global__ void __launch_bounds__(THREADS)
affine(const T *x_, const float *mean, const float *variance, const float *weight, const float *bias, T *y_, int total,
       int packs, int channels, float eps) {
    const Pack *x = (const Pack *)x_;
    Pack *y = (Pack *)y_;
    for (index_t i = (index_t)blockIdx.x * THREADS + threadIdx.x; i < total; i += (index_t)gridDim.x * THREADS) {
        const int first = COLUMNS ? (int)i % packs * VEC : (int)i / packs % channels;
        Pack p = x[i];
        for (int k = 0; k < VEC; k++) {
            const int c = first + (COLUMNS ? k : 0);
            const float v = (to_float(p.v[k]) - (mean ? mean[c] : 0.0f)) * slope(variance, weight, c, eps);
            from_float(v + (bias ? bias[c] : 0.0f), p.v[k]);
        }
        y[i] = p;
    }
}

// gx, which may be absent, and the share of each block in the sums of gy·(x - μ)·r and of gy, which go to `partial`
// (2, gridDim.y, C). blockIdx.x is a channel, or 32 of them where there are no places; blockIdx.y is the share.
#if !COLUMNS
extern "C" __global__ void __launch_bounds__(THREADS)
affine_backward(const T *x_, const T *g_, const float *mean, const float *variance, const float *weight, T *gx_,
                float *partial, int examples, int packs, int channels, float eps) {
    __shared__ Pair room[32];
    const Pack *x = (const Pack *)x_, *g = (const Pack *)g_;
    Pack *gx = (Pack *)gx_;
    const int c = blockIdx.x;
    const float mu = mean[c], r = slope(variance, nullptr, c, eps), a = slope(variance, weight, c, eps);
    Pair sums = {0, 0};
    for (int n = blockIdx.y; n < examples; n += gridDim.y) {
        const index_t base = ((index_t)n * channels + c) * packs;
        float sum = 0, product = 0;
        for (int i = threadIdx.x; i < packs; i += THREADS) {
            const Pack p = x[base + i];
            Pack q = g[base + i];
            for (int k = 0; k < VEC; k++) {
                const float h = to_float(q.v[k]);
                sum += h;
                product += h * ((to_float(p.v[k]) - mu) * r);
                from_float(h * a, q.v[k]);
            }
            if (gx) gx[base + i] = q;
        }
        sums.a += sum;
        sums.b += product;
    }
    sums = block_sum(sums, room);
    if (threadIdx.x == 0) {
        partial[blockIdx.y * channels + c] = (float)sums.b;
        partial[(gridDim.y + blockIdx.y) * channels + c] = (float)sums.a;
    }
}
#else
extern "C" __global__ void __launch_bounds__(THREADS)
affine_backward(const T *x, const T *g, const float *mean, const float *variance, const float *weight, T *gx,
                float *partial, int examples, int packs, int channels, float eps) {
    const int c = blockIdx.x * THREADS + threadIdx.x;
    if (c >= channels) return;
    const float mu = mean[c], r = slope(variance, nullptr, c, eps), a = slope(variance, weight, c, eps);
    double sum = 0, product = 0;
    for (int n = blockIdx.y; n < examples; n += gridDim.y) {
        const index_t at = (index_t)n * channels + c;
        const float h = to_float(g[at]);
        sum += h;
        product += h * ((to_float(x[at]) - mu) * r);
        if (gx) from_float(h * a, gx[at]);
    }
    partial[blockIdx.y * channels + c] = (float)product;
    partial[(gridDim.y + blockIdx.y) * channels + c] = (float)sum;
}
#endif
