// Sets that are columns of a matrix (N, C): BatchNorm without places. And sums of columns, which other kernels leave.
//
// Beside what normalization.cuh wants (VEC is 1: neighbouring threads have neighbouring columns), compiled with
//
//     ACTIVATION 0, 1 or 2: none, ReLU, sigmoid
//
// A block has 32 columns (threadIdx.x) and ROWS rows of threads (threadIdx.y); BLOCKS of them share the columns' elements.

#include "normalization.cuh"

constexpr int ROWS = THREADS / 32;

__device__ __forceinline__ Pair column_sum(Pair p, Pair (*room)[32]) {
    __syncthreads();
    room[threadIdx.y][threadIdx.x] = p;
    __syncthreads();
    Pair total = {0, 0};
    for (int k = 0; k < ROWS; k++) {
        total.a += room[k][threadIdx.x].a;
        total.b += room[k][threadIdx.x].b;
    }
    return total;
}

// Every sum wants a slot of its own, so that none is overwritten while another block reads it.
__device__ __forceinline__ Pair column_sum_of_cluster(Pair p, Pair (*room)[32], Pair *slot) {
    p = column_sum(p, room);
    if (BLOCKS == 1) return p;
    if (threadIdx.y == 0) slot[threadIdx.x] = p;
    cluster_barrier();
    p = {0, 0};
    for (int r = 0; r < BLOCKS; r++) {
        p.a += remote(&slot[threadIdx.x].a, r);
        p.b += remote(&slot[threadIdx.x].b, r);
    }
    return p;
}

#define FOR_COLUMN(at)                                                                             \
    for (index_t at = (index_t)(rank * ROWS + threadIdx.y) * C + c, _end = inside ? (index_t)N * C : 0; at < _end; \
         at += (index_t)BLOCKS * ROWS * C)

extern "C" __global__ void CLUSTER
column_forward(const T *x, const T *residual, const float *weight, const float *bias, T *y, float *mean_,
               float *variance_, float *rstd_, int N, int C, double eps) {
    __shared__ Pair room[ROWS][32], slots[2][32];
    const int c = blockIdx.x / BLOCKS * 32 + threadIdx.x, rank = blockIdx.x % BLOCKS;
    const bool inside = c < C;
    const float s = inside ? to_float(x[c]) : 0.0f;
    Pair sums = {0, 0};
    FOR_COLUMN(at) sums.a += to_float(x[at]) - s;
    const double offset = column_sum_of_cluster(sums, room, slots[0]).a / N;
    sums = {0, 0};
    FOR_COLUMN(at) {
        const double d = (double)(to_float(x[at]) - s) - offset;
        sums.a += d * d;
    }
    const double variance = column_sum_of_cluster(sums, room, slots[1]).a / N, rstd = rsqrt(variance + eps);
    const float a = (float)(rstd * (inside && weight ? weight[c] : 1.0f)), b = inside && bias ? bias[c] : 0.0f;
    const float shift = (float)offset;
    FOR_COLUMN(at) {
        float v = ((to_float(x[at]) - s) - shift) * a + b;
        if (residual) v += to_float(residual[at]);
        from_float(activated(v, ACTIVATION), y[at]);
    }
    if (inside && rank == 0 && threadIdx.y == 0) {
        mean_[c] = (float)(s + offset);
        variance_[c] = (float)variance;
        rstd_[c] = (float)rstd;
    }
    leave_cluster();
}

extern "C" __global__ void CLUSTER
column_backward(const T *x, const T *g, const T *y, const float *weight, const float *mean, const float *rstd, T *gx,
                T *gresidual, float *gweight, float *gbias, int N, int C) {
    __shared__ Pair room[ROWS][32], slot[32];
    const int c = blockIdx.x / BLOCKS * 32 + threadIdx.x, rank = blockIdx.x % BLOCKS;
    const bool inside = c < C;
    const float mu = inside ? mean[c] : 0.0f, r = inside ? rstd[c] : 0.0f;
    auto gradient = [&](index_t at) {
        const float h = to_float(g[at]);
        return ACTIVATION == NONE ? h : through(h, to_float(y[at]), ACTIVATION);
    };
    Pair sums = {0, 0};
    FOR_COLUMN(at) {
        const float h = gradient(at);
        sums.a += h;
        sums.b += h * ((to_float(x[at]) - mu) * r);
    }
    const Pair total = column_sum_of_cluster(sums, room, slot);
    const float a = r * (inside && weight ? weight[c] : 1.0f);
    const float mean_g = (float)(total.a / N), mean_gx = (float)(total.b / N);
    FOR_COLUMN(at) {
        const float h = gradient(at);
        if (gresidual) from_float(h, gresidual[at]);
        from_float(a * (h - mean_g - (to_float(x[at]) - mu) * r * mean_gx), gx[at]);
    }
    if (inside && rank == 0 && threadIdx.y == 0) {
        if (gbias) gbias[c] = (float)total.a;
        if (gweight) gweight[c] = (float)total.b;
    }
    leave_cluster();
}

// (2, rows, C) to (2, C), for what the blocks of another kernel found for two parameters; blockIdx.y is which of them.
extern "C" __global__ void __launch_bounds__(THREADS)
sum_of_columns(const float *partial, float *sums, int rows, int C) {
    __shared__ Pair room[ROWS][32];
    const int c = blockIdx.x * 32 + threadIdx.x;
    double sum = 0;
    if (c < C)
        for (int n = threadIdx.y; n < rows; n += ROWS) sum += partial[((index_t)blockIdx.y * rows + n) * C + c];
    sum = column_sum({sum, 0}, room).a;
    if (c < C && threadIdx.y == 0) sums[blockIdx.y * C + c] = (float)sum;
}
