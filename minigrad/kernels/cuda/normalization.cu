// Normalization in training, forward and backward, reading every element from global memory once.
//
// Compiled with  T       element type: float, __half or __nv_bfloat16 (statistics and parameters are float)
//                VEC     elements in one access of a thread: 16 bytes' worth, or 1 where rows are not aligned
//                BLOCKS  blocks that share one channel (a cluster), for the channel kernels
//                EPT     accesses of one thread to a row, for the row kernels
//                THREADS threads in a block
//
// Sums are taken in double of x - s, s being the first element of the set: exact for constant sets, without
// cancellation at large means, and without overflow at |x| up to 1e38.

#if HALF
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#endif

typedef long long index_t;

struct alignas(sizeof(T) * VEC) Pack { T v[VEC]; };

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ void from_float(float x, float &y) { y = x; }
#if HALF
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ void from_float(float x, __half &y) { y = __float2half_rn(x); }
__device__ __forceinline__ void from_float(float x, __nv_bfloat16 &y) { y = __float2bfloat16_rn(x); }
#endif

// ------------------------------------------------------------------ sums over a block, and over a cluster of blocks

struct Pair { double a, b; };

__device__ __forceinline__ Pair warp_sum(Pair p) {
    for (int k = 16; k; k >>= 1) {
        p.a += __shfl_xor_sync(~0u, p.a, k);
        p.b += __shfl_xor_sync(~0u, p.b, k);
    }
    return p;
}

__device__ __forceinline__ Pair block_sum(Pair p, Pair *room) {
    p = warp_sum(p);
    if (THREADS > 32) {
        int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        __syncthreads();
        if (lane == 0) room[warp] = p;
        __syncthreads();
        p = lane < THREADS / 32 ? room[lane] : Pair{0, 0};
        p = warp_sum(p);
    }
    return p;
}

#ifdef BLOCKS
__device__ __forceinline__ void cluster_barrier() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

__device__ __forceinline__ double remote(const double *local, int rank) {
    unsigned here = (unsigned)__cvta_generic_to_shared(local), there;
    double value;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(rank));
    asm volatile("ld.shared::cluster.f64 %0, [%1];" : "=d"(value) : "r"(there) : "memory");
    return value;
}

// `slot` differs from call to call, so that one barrier is enough.
__device__ __forceinline__ Pair cluster_sum(Pair p, Pair *room, Pair *slot) {
    p = block_sum(p, room);
    if (BLOCKS == 1) return p;
    if (threadIdx.x == 0) *slot = p;
    cluster_barrier();
    Pair total = {0, 0};
    for (int r = 0; r < BLOCKS; r++) {
        total.a += remote(&slot->a, r);
        total.b += remote(&slot->b, r);
    }
    return total;
}

// ------------------------------------------------------------------ channels: x (N, C, L), one set per c

// The packs of channel c in rows [n0, n1), as this thread meets them: i counts them in shared memory.
#define FOR_PACKS(i, at)                                                                          \
    for (int i = threadIdx.x, _l = threadIdx.x % packs, _n = n0 + threadIdx.x / packs; _n < n1;   \
         i += THREADS, _l += step_l, _n += step_n + (_l >= packs), _l -= _l >= packs ? packs : 0) \
        if (index_t at = ((index_t)_n * C + c) * packs + _l; true)

template <bool STAGED> __device__ __forceinline__ void stage(Pack *to, const Pack *from) {
    if (STAGED) {
        unsigned address = (unsigned)__cvta_generic_to_shared(to);
        if (sizeof(Pack) == 16)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from));
        else if (sizeof(Pack) >= 4)
            asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(from), "n"(sizeof(Pack) < 4 ? 4 : sizeof(Pack)));
        else
            *to = *from;
    }
}

__device__ __forceinline__ void staged() { asm volatile("cp.async.wait_all;" ::: "memory"); }

template <bool STAGED>
__device__ void channel_forward(const T *x_, const float *weight, const float *bias, T *y_, float *mean_, float *variance_,
                                float *rstd_, int N, int C, int packs, double eps) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ Pair room[32], slots[2];
    Pack *kept = (Pack *)memory;
    const Pack *x = (const Pack *)x_;
    Pack *y = (Pack *)y_;
    const int rank = blockIdx.x % BLOCKS, c = blockIdx.x / BLOCKS;
    const int n0 = (index_t)N * rank / BLOCKS, n1 = (index_t)N * (rank + 1) / BLOCKS;
    const int step_n = THREADS / packs, step_l = THREADS % packs;
    const double m = (double)N * packs * VEC;
    const float s = to_float(x_[(index_t)c * packs * VEC]);

    FOR_PACKS(i, at) stage<STAGED>(kept + i, x + at);
    if (STAGED) staged();  // each thread reads back only what it staged itself

    Pair sums = {0, 0};
    FOR_PACKS(i, at) {
        Pack p = STAGED ? kept[i] : x[at];
        float part = 0;
        for (int k = 0; k < VEC; k++) part += to_float(p.v[k]) - s;
        sums.a += part;
    }
    const double offset = cluster_sum(sums, room, slots).a / m;

    sums = {0, 0};
    FOR_PACKS(i, at) {
        Pack p = STAGED ? kept[i] : x[at];
        for (int k = 0; k < VEC; k++) {
            double d = (double)(to_float(p.v[k]) - s) - offset;
            sums.a += d * d;
        }
    }
    const double variance = cluster_sum(sums, room, slots + 1).a / m;
    const double rstd = rsqrt(variance + eps);
    const float a = (float)(rstd * (weight ? weight[c] : 1.0f)), shift = (float)offset, b = bias ? bias[c] : 0.0f;

    FOR_PACKS(i, at) {
        Pack p = STAGED ? kept[i] : x[at];
        for (int k = 0; k < VEC; k++) from_float(((to_float(p.v[k]) - s) - shift) * a + b, p.v[k]);
        y[at] = p;
    }
    if (rank == 0 && threadIdx.x == 0) {
        mean_[c] = (float)(s + offset);
        variance_[c] = (float)variance;
        rstd_[c] = (float)rstd;
    }
    if (BLOCKS > 1) cluster_barrier();  // nobody leaves while another may read its sums
}

template <bool STAGED>
__device__ void channel_backward(const T *x_, const T *g_, const float *weight, const float *mean, const float *rstd,
                                 T *gx_, float *gweight, float *gbias, int N, int C, int packs, int room_for) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ Pair room[32], slots[1];
    Pack *kept_x = (Pack *)memory, *kept_g = kept_x + room_for;
    const Pack *x = (const Pack *)x_, *g = (const Pack *)g_;
    Pack *gx = (Pack *)gx_;
    const int rank = blockIdx.x % BLOCKS, c = blockIdx.x / BLOCKS;
    const int n0 = (index_t)N * rank / BLOCKS, n1 = (index_t)N * (rank + 1) / BLOCKS;
    const int step_n = THREADS / packs, step_l = THREADS % packs;
    const double m = (double)N * packs * VEC;
    const float mu = mean[c], r = rstd[c];

    FOR_PACKS(i, at) {
        stage<STAGED>(kept_x + i, x + at);
        stage<STAGED>(kept_g + i, g + at);
    }
    if (STAGED) staged();

    Pair sums = {0, 0};
    FOR_PACKS(i, at) {
        Pack p = STAGED ? kept_x[i] : x[at], q = STAGED ? kept_g[i] : g[at];
        float part = 0, product = 0;
        for (int k = 0; k < VEC; k++) {
            float h = to_float(q.v[k]);
            part += h;
            product += h * ((to_float(p.v[k]) - mu) * r);
        }
        sums.a += part;
        sums.b += product;
    }
    const Pair total = cluster_sum(sums, room, slots);
    const float a = r * (weight ? weight[c] : 1.0f), mean_g = (float)(total.a / m), mean_gx = (float)(total.b / m);

    FOR_PACKS(i, at) {
        Pack p = STAGED ? kept_x[i] : x[at], q = STAGED ? kept_g[i] : g[at];
        for (int k = 0; k < VEC; k++)
            from_float(a * (to_float(q.v[k]) - mean_g - (to_float(p.v[k]) - mu) * r * mean_gx), p.v[k]);
        gx[at] = p;
    }
    if (rank == 0 && threadIdx.x == 0) {
        if (gbias) gbias[c] = (float)total.a;
        if (gweight) gweight[c] = (float)total.b;
    }
    if (BLOCKS > 1) cluster_barrier();
}

#define CLUSTER __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(THREADS)
#define FORWARD_ARGUMENTS const T *x, const float *weight, const float *bias, T *y, float *mean, float *variance, \
        float *rstd, int N, int C, int packs, double eps
#define BACKWARD_ARGUMENTS const T *x, const T *g, const float *weight, const float *mean, const float *rstd, T *gx, \
        float *gweight, float *gbias, int N, int C, int packs, int room_for

extern "C" __global__ void CLUSTER channel_forward_staged(FORWARD_ARGUMENTS) {
    channel_forward<true>(x, weight, bias, y, mean, variance, rstd, N, C, packs, eps);
}
extern "C" __global__ void CLUSTER channel_forward_reread(FORWARD_ARGUMENTS) {
    channel_forward<false>(x, weight, bias, y, mean, variance, rstd, N, C, packs, eps);
}
extern "C" __global__ void CLUSTER channel_backward_staged(BACKWARD_ARGUMENTS) {
    channel_backward<true>(x, g, weight, mean, rstd, gx, gweight, gbias, N, C, packs, room_for);
}
extern "C" __global__ void CLUSTER channel_backward_reread(BACKWARD_ARGUMENTS) {
    channel_backward<false>(x, g, weight, mean, rstd, gx, gweight, gbias, N, C, packs, room_for);
}
#endif

// ------------------------------------------------------------------ rows: x (R, D), one set per row, kept in registers

#ifdef EPT
extern "C" __global__ void __launch_bounds__(THREADS)
row_forward(const T *x_, const float *weight, const float *bias, T *y_, float *mean_, float *variance_, float *rstd_,
            int R, int packs, double eps) {
    __shared__ Pair room[32];
    const Pack *x = (const Pack *)x_;
    Pack *y = (Pack *)y_;
    const double m = (double)packs * VEC;
    for (int row = blockIdx.x; row < R; row += gridDim.x) {
        const index_t base = (index_t)row * packs;
        const float s = to_float(x_[base * VEC]);
        Pack p[EPT];
        Pair sums = {0, 0};
#pragma unroll
        for (int e = 0; e < EPT; e++)
            if (int i = threadIdx.x + e * THREADS; i < packs) p[e] = x[base + i];
#pragma unroll
        for (int e = 0; e < EPT; e++)
            if (threadIdx.x + e * THREADS < packs) {
                float part = 0;
                for (int k = 0; k < VEC; k++) part += to_float(p[e].v[k]) - s;
                sums.a += part;
            }
        const double offset = block_sum(sums, room).a / m;
        sums = {0, 0};
#pragma unroll
        for (int e = 0; e < EPT; e++)
            if (threadIdx.x + e * THREADS < packs)
                for (int k = 0; k < VEC; k++) {
                    double d = (double)(to_float(p[e].v[k]) - s) - offset;
                    sums.a += d * d;
                }
        const double variance = block_sum(sums, room).a / m, rstd = rsqrt(variance + eps);
        const float a = (float)rstd, shift = (float)offset;
#pragma unroll
        for (int e = 0; e < EPT; e++)
            if (int i = threadIdx.x + e * THREADS; i < packs) {
                for (int k = 0; k < VEC; k++) {
                    float h = ((to_float(p[e].v[k]) - s) - shift) * a;
                    if (weight) h *= weight[i * VEC + k];
                    if (bias) h += bias[i * VEC + k];
                    from_float(h, p[e].v[k]);
                }
                y[base + i] = p[e];
            }
        if (threadIdx.x == 0) {
            mean_[row] = (float)(s + offset);
            variance_[row] = (float)variance;
            rstd_[row] = a;
        }
    }
}

// Each block takes every gridDim.x-th row and sums its share of the parameters' gradients in registers;
// `partial` is (2, gridDim.x, D).
extern "C" __global__ void __launch_bounds__(THREADS)
row_backward(const T *x_, const T *g_, const float *weight, const float *mean, const float *rstd, T *gx_, float *partial,
             int R, int packs) {
    __shared__ Pair room[32];
    const Pack *x = (const Pack *)x_, *g = (const Pack *)g_;
    Pack *gx = (Pack *)gx_;
    const double m = (double)packs * VEC;
    float sum_g[EPT * VEC] = {}, sum_gx[EPT * VEC] = {};
    for (int row = blockIdx.x; row < R; row += gridDim.x) {
        const index_t base = (index_t)row * packs;
        const float mu = mean[row], r = rstd[row];
        Pack p[EPT], q[EPT];
#pragma unroll
        for (int e = 0; e < EPT; e++)
            if (int i = threadIdx.x + e * THREADS; i < packs) p[e] = x[base + i], q[e] = g[base + i];
        Pair sums = {0, 0};
#pragma unroll
        for (int e = 0; e < EPT; e++)
            if (int i = threadIdx.x + e * THREADS; i < packs) {
                float part = 0, product = 0;
#pragma unroll
                for (int k = 0; k < VEC; k++) {
                    float h = to_float(q[e].v[k]), xhat = (to_float(p[e].v[k]) - mu) * r;
                    sum_g[e * VEC + k] += h;
                    sum_gx[e * VEC + k] += h * xhat;
                    if (weight) h *= weight[i * VEC + k];
                    part += h;
                    product += h * xhat;
                }
                sums.a += part;
                sums.b += product;
            }
        const Pair total = block_sum(sums, room);
        const float mean_g = (float)(total.a / m), mean_gx = (float)(total.b / m);
#pragma unroll
        for (int e = 0; e < EPT; e++)
            if (int i = threadIdx.x + e * THREADS; i < packs) {
                for (int k = 0; k < VEC; k++) {
                    float h = to_float(q[e].v[k]), xhat = (to_float(p[e].v[k]) - mu) * r;
                    if (weight) h *= weight[i * VEC + k];
                    from_float(r * (h - mean_g - xhat * mean_gx), p[e].v[k]);
                }
                gx[base + i] = p[e];
            }
    }
    if (partial)
#pragma unroll
        for (int e = 0; e < EPT; e++)
            if (int i = threadIdx.x + e * THREADS; i < packs)
                for (int k = 0; k < VEC; k++) {
                    index_t at = (index_t)blockIdx.x * packs * VEC + i * VEC + k;
                    partial[at] = sum_gx[e * VEC + k];
                    partial[at + (index_t)gridDim.x * packs * VEC] = sum_g[e * VEC + k];
                }
}
#endif

// ------------------------------------------------------------------ columns: x (N, C), one set per column

#ifdef COLUMNS
// A block has 32 columns (threadIdx.x) and THREADS / 32 rows of threads (threadIdx.y).
__device__ __forceinline__ Pair column_sum(Pair p, Pair (*room)[32]) {
    __syncthreads();
    room[threadIdx.y][threadIdx.x] = p;
    __syncthreads();
    Pair total = {0, 0};
    for (int k = 0; k < THREADS / 32; k++) {
        total.a += room[k][threadIdx.x].a;
        total.b += room[k][threadIdx.x].b;
    }
    return total;
}

extern "C" __global__ void __launch_bounds__(THREADS)
column_forward(const T *x, const float *weight, const float *bias, T *y, float *mean_, float *variance_, float *rstd_,
               int N, int C, double eps) {
    __shared__ Pair room[THREADS / 32][32];
    const int c = blockIdx.x * 32 + threadIdx.x;
    const bool inside = c < C;
    const float s = inside ? to_float(x[c]) : 0.0f;
    Pair sums = {0, 0};
    if (inside)
        for (int n = threadIdx.y; n < N; n += THREADS / 32) sums.a += to_float(x[(index_t)n * C + c]) - s;
    const double offset = column_sum(sums, room).a / N;
    sums = {0, 0};
    if (inside)
        for (int n = threadIdx.y; n < N; n += THREADS / 32) {
            double d = (double)(to_float(x[(index_t)n * C + c]) - s) - offset;
            sums.a += d * d;
        }
    const double variance = column_sum(sums, room).a / N, rstd = rsqrt(variance + eps);
    if (!inside) return;
    const float a = (float)(rstd * (weight ? weight[c] : 1.0f)), shift = (float)offset, b = bias ? bias[c] : 0.0f;
    for (int n = threadIdx.y; n < N; n += THREADS / 32)
        from_float(((to_float(x[(index_t)n * C + c]) - s) - shift) * a + b, y[(index_t)n * C + c]);
    if (threadIdx.y == 0) {
        mean_[c] = (float)(s + offset);
        variance_[c] = (float)variance;
        rstd_[c] = (float)rstd;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
column_backward(const T *x, const T *g, const float *weight, const float *mean, const float *rstd, T *gx, float *gweight,
                float *gbias, int N, int C) {
    __shared__ Pair room[THREADS / 32][32];
    const int c = blockIdx.x * 32 + threadIdx.x;
    const bool inside = c < C;
    const float mu = inside ? mean[c] : 0.0f, r = inside ? rstd[c] : 0.0f;
    Pair sums = {0, 0};
    if (inside)
        for (int n = threadIdx.y; n < N; n += THREADS / 32) {
            float h = to_float(g[(index_t)n * C + c]);
            sums.a += h;
            sums.b += h * ((to_float(x[(index_t)n * C + c]) - mu) * r);
        }
    const Pair total = column_sum(sums, room);
    if (!inside) return;
    const float a = r * (weight ? weight[c] : 1.0f), mean_g = (float)(total.a / N), mean_gx = (float)(total.b / N);
    for (int n = threadIdx.y; n < N; n += THREADS / 32) {
        index_t at = (index_t)n * C + c;
        from_float(a * (to_float(g[at]) - mean_g - (to_float(x[at]) - mu) * r * mean_gx), gx[at]);
    }
    if (threadIdx.y == 0) {
        if (gbias) gbias[c] = (float)total.a;
        if (gweight) gweight[c] = (float)total.b;
    }
}
#endif
