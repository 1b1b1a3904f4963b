// Sets that are rows of a matrix (R, D), with parameters for every column: LayerNorm, and RMSNorm, which is not centred.
//
// Beside what normalization.cuh wants, compiled with
//
//     EPT      accesses of one thread to a row
//     CENTRED  1 for LayerNorm, 0 for RMSNorm
//
// A block takes every gridDim.x-th row. A slot of shared memory is filled for the next row as soon as its last use is
// over. The parameters stay in shared memory, where rows do not push them out.

#include "normalization.cuh"

#define FOR_ROW(i) _Pragma("unroll") for (int _e = 0, i = threadIdx.x; _e < EPT; _e++, i += THREADS) if (i < packs)

__device__ __forceinline__ void keep(float *to, const float *from, float otherwise, int packs) {
    FOR_ROW(i) {
        Floats f;
        for (int k = 0; k < VEC; k++) f.v[k] = from ? from[i * VEC + k] : otherwise;
        ((Floats *)to)[i] = f;
    }
}

// mean_ is not written where nothing is centred.
extern "C" __global__ void __launch_bounds__(THREADS)
row_forward(const T *x_, const float *weight, const float *bias, T *y_, float *mean_, float *variance_, float *rstd_,
            int R, int packs, double eps) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ Pair rooms[2][32];
    Floats *w = (Floats *)memory, *b = w + packs;
    Pack *kept = (Pack *)(b + packs), *y = (Pack *)y_;
    const Pack *x = (const Pack *)x_;
    const double per_element = 1 / ((double)packs * VEC);
    int turn = 0;
    index_t base = (index_t)blockIdx.x * packs;
    FOR_ROW(i) stage(kept + i, x + base + i);
    commit();
    keep((float *)w, weight, 1, packs);
    keep((float *)b, bias, 0, packs);
    for (int row = blockIdx.x; row < R; row += gridDim.x, turn ^= 1) {
        const float s = CENTRED ? to_float(x_[base * VEC]) : 0.0f;
        wait();
        auto each = [&](auto take) { FOR_ROW(i) take(kept[i]); };
        const Pair own = CENTRED ? moments(s, each) : squares(each);
        const Statistics found(block_sum(own, rooms[turn]), per_element, s, eps);
        const index_t ahead = row + gridDim.x < R ? (index_t)gridDim.x * packs : 0;
        FOR_ROW(i) {
            Pack p = kept[i];
            const Floats f = w[i], h = b[i];
            for (int k = 0; k < VEC; k++)
                from_float(((to_float(p.v[k]) - found.near) - found.rest) * (found.rstd * f.v[k]) + h.v[k], p.v[k]);
            y[base + i] = p;
            if (ahead) stage(kept + i, x + base + ahead + i);
        }
        commit();
        if (threadIdx.x == 0) {
            if (CENTRED) mean_[row] = found.near;
            variance_[row] = (float)found.variance;
            rstd_[row] = found.rstd;
        }
        base += ahead;
    }
}

// Each block sums its share of the parameters' gradients in registers; `partial` is (2, gridDim.x, D).
extern "C" __global__ void __launch_bounds__(THREADS)
row_backward(const T *x_, const T *g_, const float *weight, const float *mean, const float *rstd, T *gx_, float *partial,
             int R, int packs) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ Pair rooms[2][32];
    Floats *w = (Floats *)memory;
    Pack *kept_x = (Pack *)(w + packs), *kept_g = kept_x + packs, *gx = (Pack *)gx_;
    const Pack *x = (const Pack *)x_, *g = (const Pack *)g_;
    const double per_element = 1 / ((double)packs * VEC);
    float sum_g[EPT * VEC] = {}, sum_gx[EPT * VEC] = {};
    int turn = 0;
    index_t base = (index_t)blockIdx.x * packs;
    FOR_ROW(i) {
        stage(kept_x + i, x + base + i);
        stage(kept_g + i, g + base + i);
    }
    commit();
    keep((float *)w, weight, 1, packs);
    for (int row = blockIdx.x; row < R; row += gridDim.x, turn ^= 1) {
        const float mu = CENTRED ? mean[row] : 0.0f, r = rstd[row];
        wait();
        float sum = 0, product = 0;
        FOR_ROW(i) {
            const Pack p = kept_x[i], q = kept_g[i];
            const Floats f = w[i];
#pragma unroll
            for (int k = 0; k < VEC; k++) {
                const float xhat = (to_float(p.v[k]) - mu) * r, h = to_float(q.v[k]) * f.v[k];
                sum_g[_e * VEC + k] += to_float(q.v[k]);
                sum_gx[_e * VEC + k] += to_float(q.v[k]) * xhat;
                sum += h;
                product += h * xhat;
            }
        }
        const Pair sums = block_sum({sum, product}, rooms[turn]);
        const float b = CENTRED ? (float)(-sums.a * per_element) : 0.0f, slope = (float)(-sums.b * per_element) * r;
        const index_t ahead = row + gridDim.x < R ? (index_t)gridDim.x * packs : 0;
        FOR_ROW(i) {
            Pack p = kept_x[i];
            const Pack q = kept_g[i];
            const Floats f = w[i];
            for (int k = 0; k < VEC; k++)
                from_float((to_float(q.v[k]) * f.v[k] + ((to_float(p.v[k]) - mu) * slope + b)) * r, p.v[k]);
            gx[base + i] = p;
            if (ahead) {
                stage(kept_x + i, x + base + ahead + i);
                stage(kept_g + i, g + base + ahead + i);
            }
        }
        commit();
        base += ahead;
    }
    if (partial)
        FOR_ROW(i)
            for (int k = 0; k < VEC; k++) {
                const index_t at = ((index_t)blockIdx.x * packs + i) * VEC + k;
                partial[at] = sum_gx[_e * VEC + k];
                partial[at + (index_t)gridDim.x * packs * VEC] = sum_g[_e * VEC + k];
            }
}
