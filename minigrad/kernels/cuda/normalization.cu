// Normalization in training, forward and backward, reading every element from global memory once.
//
// Compiled with  ELEMENT type of the elements: float, __half or __nv_bfloat16 (statistics and parameters are float)
//                VEC     elements in one access of a thread: 16 bytes' worth, or 1 where rows are not aligned
//                BLOCKS  blocks that share one channel (a cluster), for the channel kernels
//                EPT     accesses of one thread to a row, for the row kernels
//                THREADS threads in a block
//
// Sums are of d = x - s, s being the first element of the set: exact for constant sets, and without cancellation at
// large means. A thread sums its own few elements in float and hands on doubles, in which nothing cancels or overflows.

#if HALF
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#endif

typedef long long index_t;
typedef ELEMENT T;

struct alignas(sizeof(T) * VEC) Pack { T v[VEC]; };

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ void from_float(float x, float &y) { y = x; }
#if HALF
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ void from_float(float x, __half &y) { y = __float2half_rn(x); }
__device__ __forceinline__ void from_float(float x, __nv_bfloat16 &y) { y = __float2bfloat16_rn(x); }
#endif

// The float parameters that belong to a pack.
struct alignas(VEC >= 4 ? 16 : 4 * VEC) Floats { float v[VEC]; };

__device__ __forceinline__ Floats floats(const float *from, int pack, float otherwise) {
    Floats f;
    if (from) return ((const Floats *)from)[pack];
    for (int k = 0; k < VEC; k++) f.v[k] = otherwise;
    return f;
}

// ------------------------------------------------------------------ shared memory, filled asynchronously
// A thread reads back only what it staged itself, so no barrier is needed.

__device__ __forceinline__ void stage(Pack *to, const Pack *from) {
    if (sizeof(Pack) < 4) {
        *to = *from;
        return;
    }
    unsigned address = (unsigned)__cvta_generic_to_shared(to);
    if (sizeof(Pack) == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from));
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(from));
}

__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> __device__ __forceinline__ void wait() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }

// ------------------------------------------------------------------ sums over a block, and over a cluster of blocks

struct Pair { double a, b; };

__device__ __forceinline__ Pair warp_sum(Pair p) {
    for (int k = 16; k; k >>= 1) {
        p.a += __shfl_xor_sync(~0u, p.a, k);
        p.b += __shfl_xor_sync(~0u, p.b, k);
    }
    return p;
}

// `room` must not be in use by an earlier sum that some warp has yet to read: callers alternate two rooms.
__device__ __forceinline__ Pair block_sum(Pair p, Pair *room) {
    p = warp_sum(p);
    if (THREADS > 32) {
        int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        if (lane == 0) room[warp] = p;
        __syncthreads();
        p = lane < THREADS / 32 ? room[lane] : Pair{0, 0};
        p = warp_sum(p);
    }
    return p;
}

// What a thread found in its own packs: count, sum of d and sum of squares about its own mean, as (sum d, sum d * d).
// `at(i)` gives pack i. Squares beyond float are taken again in double.
template <class At> __device__ __forceinline__ Pair moments(int begin, int end, int step, float s, At at) {
    int count = 0;
    float sum = 0;
    for (int i = begin; i < end; i += step, count += VEC) {
        Pack p = at(i);
        for (int k = 0; k < VEC; k++) sum += to_float(p.v[k]) - s;
    }
    if (!count) return {0, 0};
    const float own = sum / count;
    float rest = 0, squares = 0;
    for (int i = begin; i < end; i += step) {
        Pack p = at(i);
        for (int k = 0; k < VEC; k++) {
            float d = (to_float(p.v[k]) - s) - own;
            rest += d;
            squares += d * d;
        }
    }
    double total = squares;
    if (!(squares < 3e38f)) {
        total = 0;
        for (int i = begin; i < end; i += step) {
            Pack p = at(i);
            for (int k = 0; k < VEC; k++) {
                double d = (double)(to_float(p.v[k]) - s) - own;
                total += d * d;
            }
        }
    }
    // sum d = count * own + rest, and about d = 0 instead of d = own the squares are
    return {(double)own * count + rest, total + (double)own * ((double)own * count + 2.0 * rest)};
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

__device__ __forceinline__ Pair cluster_sum(Pair p, Pair *room, Pair *slot) {
    p = block_sum(p, room);
    if (BLOCKS == 1) return p;
    if (threadIdx.x == 0) *slot = p;
    cluster_barrier();
    p = {0, 0};
    for (int r = 0; r < BLOCKS; r++) {
        p.a += remote(&slot->a, r);
        p.b += remote(&slot->b, r);
    }
    return p;
}

// ------------------------------------------------------------------ channels: x (N, C, L), one set per c
// The blocks of a cluster share a channel by examples: this one has those from n0 to n1, `count` packs in all.

struct Share {
    int rank, c, n0, count;
    __device__ Share(int N, int packs) {
        rank = blockIdx.x % BLOCKS;
        c = blockIdx.x / BLOCKS;
        n0 = (index_t)N * rank / BLOCKS;
        count = (int)((index_t)N * (rank + 1) / BLOCKS - n0) * packs;
    }
};

// Runs the body for i = threadIdx.x, threadIdx.x + THREADS, ... with `at`, where pack i of the share is in memory.
#define FOR_PACKS(i, at)                                                                                        \
    index_t at = ((index_t)(share.n0 + threadIdx.x / packs) * C + share.c) * packs + threadIdx.x % packs;       \
    for (int i = threadIdx.x, _l = threadIdx.x % packs; i < share.count; i += THREADS, _l += THREADS % packs,   \
             at += (index_t)(THREADS / packs) * C * packs + THREADS % packs,                                    \
             at += _l >= packs ? (index_t)(C - 1) * packs : 0, _l -= _l >= packs ? packs : 0)

__device__ __forceinline__ index_t place(int i, const Share &share, int C, int packs) {
    return ((index_t)(share.n0 + i / packs) * C + share.c) * packs + i % packs;
}

template <bool STAGED>
__device__ void channel_forward(const T *x_, const float *weight, const float *bias, T *y_, float *mean_, float *variance_,
                                float *rstd_, int N, int C, int packs, double eps) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ Pair room[32], slot;
    Pack *kept = (Pack *)memory, *y = (Pack *)y_;
    const Pack *x = (const Pack *)x_;
    const Share share(N, packs);
    const int c = share.c;
    const double m = (double)N * packs * VEC;
    if (STAGED) {
        FOR_PACKS(i, at) stage(kept + i, x + at);
        commit();
    }
    const float s = to_float(x_[(index_t)c * packs * VEC]);
    if (STAGED) wait<0>();
    auto read = [&](int i) { return STAGED ? kept[i] : x[place(i, share, C, packs)]; };
    const Pair sums = cluster_sum(moments(threadIdx.x, share.count, THREADS, s, read), room, &slot);
    const double offset = sums.a / m, variance = fmax(sums.b / m - offset * offset, 0.0), rstd = rsqrt(variance + eps);
    const float a = (float)(rstd * (weight ? weight[c] : 1.0f)), shift = (float)offset, b = bias ? bias[c] : 0.0f;
    const float fine = (float)(offset - shift) * a;  // what float loses of the offset
    FOR_PACKS(i, at) {
        Pack p = STAGED ? kept[i] : x[at];
        for (int k = 0; k < VEC; k++) from_float((((to_float(p.v[k]) - s) - shift) * a - fine) + b, p.v[k]);
        y[at] = p;
    }
    if (share.rank == 0 && threadIdx.x == 0) {
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
    __shared__ Pair room[32], slot;
    Pack *kept_x = (Pack *)memory, *kept_g = kept_x + room_for, *gx = (Pack *)gx_;
    const Pack *x = (const Pack *)x_, *g = (const Pack *)g_;
    const Share share(N, packs);
    const int c = share.c;
    const double m = (double)N * packs * VEC;
    if (STAGED) {
        FOR_PACKS(i, at) {
            stage(kept_x + i, x + at);
            stage(kept_g + i, g + at);
        }
        commit();
    }
    const float mu = mean[c], r = rstd[c];
    if (STAGED) wait<0>();
    Pair sums = {0, 0};
    for (int i = threadIdx.x; i < share.count; i += THREADS) {
        index_t at = STAGED ? 0 : place(i, share, C, packs);
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
    sums = cluster_sum(sums, room, &slot);
    const float a = r * (weight ? weight[c] : 1.0f), mean_g = (float)(sums.a / m), slope = (float)(sums.b / m) * r;
    FOR_PACKS(i, at) {
        Pack p = STAGED ? kept_x[i] : x[at], q = STAGED ? kept_g[i] : g[at];
        for (int k = 0; k < VEC; k++) from_float(a * (to_float(q.v[k]) - mean_g - (to_float(p.v[k]) - mu) * slope), p.v[k]);
        gx[at] = p;
    }
    if (share.rank == 0 && threadIdx.x == 0) {
        if (gbias) gbias[c] = (float)sums.a;
        if (gweight) gweight[c] = (float)sums.b;
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

// ------------------------------------------------------------------ rows: x (R, D), one set per row
// A block takes every gridDim.x-th row, and stages the next one while it works on this one.

#ifdef EPT
__device__ __forceinline__ void stage_row(Pack *to, const Pack *from, int row, int R, int packs) {
    if (row < R)
#pragma unroll
        for (int e = 0; e < EPT; e++)
            if (int i = threadIdx.x + e * THREADS; i < packs) stage(to + i, from + (index_t)row * packs + i);
}

extern "C" __global__ void __launch_bounds__(THREADS)
row_forward(const T *x_, const float *weight, const float *bias, T *y_, float *mean_, float *variance_, float *rstd_,
            int R, int packs, double eps) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ Pair rooms[2][32];
    const Pack *x = (const Pack *)x_;
    Pack *y = (Pack *)y_;
    const double m = (double)packs * VEC;
    int turn = 0;
    stage_row((Pack *)memory, x, blockIdx.x, R, packs);
    commit();
    for (int row = blockIdx.x; row < R; row += gridDim.x, turn ^= 1) {
        const Pack *kept = (Pack *)memory + turn * packs;
        stage_row((Pack *)memory + (turn ^ 1) * packs, x, row + gridDim.x, R, packs);
        commit();
        const float s = to_float(x_[(index_t)row * packs * VEC]);
        wait<1>();
        const Pair sums = block_sum(moments(threadIdx.x, packs, THREADS, s, [&](int i) { return kept[i]; }), rooms[turn]);
        const double offset = sums.a / m, variance = fmax(sums.b / m - offset * offset, 0.0), rstd = rsqrt(variance + eps);
        const float a = (float)rstd, shift = (float)offset, fine = (float)(offset - shift) * a;
#pragma unroll
        for (int e = 0; e < EPT; e++)
            if (int i = threadIdx.x + e * THREADS; i < packs) {
                Pack p = kept[i];
                const Floats w = floats(weight, i, 1.0f), b = floats(bias, i, 0.0f);
                for (int k = 0; k < VEC; k++)
                    from_float((((to_float(p.v[k]) - s) - shift) * a - fine) * w.v[k] + b.v[k], p.v[k]);
                y[(index_t)row * packs + i] = p;
            }
        if (threadIdx.x == 0) {
            mean_[row] = (float)(s + offset);
            variance_[row] = (float)variance;
            rstd_[row] = a;
        }
    }
}

// Each block sums its share of the parameters' gradients in registers; `partial` is (2, gridDim.x, D).
extern "C" __global__ void __launch_bounds__(THREADS)
row_backward(const T *x_, const T *g_, const float *weight, const float *mean, const float *rstd, T *gx_, float *partial,
             int R, int packs) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ Pair rooms[2][32];
    const Pack *x = (const Pack *)x_, *g = (const Pack *)g_;
    Pack *gx = (Pack *)gx_;
    const double m = (double)packs * VEC;
    float sum_g[EPT * VEC] = {}, sum_gx[EPT * VEC] = {};
    int turn = 0;
    stage_row((Pack *)memory, x, blockIdx.x, R, packs);
    stage_row((Pack *)memory + 2 * packs, g, blockIdx.x, R, packs);
    commit();
    for (int row = blockIdx.x; row < R; row += gridDim.x, turn ^= 1) {
        const Pack *kept_x = (Pack *)memory + turn * packs, *kept_g = kept_x + 2 * packs;
        stage_row((Pack *)memory + (turn ^ 1) * packs, x, row + gridDim.x, R, packs);
        stage_row((Pack *)memory + (2 + (turn ^ 1)) * packs, g, row + gridDim.x, R, packs);
        commit();
        const float mu = mean[row], r = rstd[row];
        wait<1>();
        Pair sums = {0, 0};
#pragma unroll
        for (int e = 0; e < EPT; e++)
            if (int i = threadIdx.x + e * THREADS; i < packs) {
                const Pack p = kept_x[i], q = kept_g[i];
                const Floats w = floats(weight, i, 1.0f);
                float part = 0, product = 0;
#pragma unroll
                for (int k = 0; k < VEC; k++) {
                    float h = to_float(q.v[k]), xhat = (to_float(p.v[k]) - mu) * r;
                    sum_g[e * VEC + k] += h;
                    sum_gx[e * VEC + k] += h * xhat;
                    part += h * w.v[k];
                    product += h * w.v[k] * xhat;
                }
                sums.a += part;
                sums.b += product;
            }
        sums = block_sum(sums, rooms[turn]);
        const float mean_g = (float)(sums.a / m), mean_gx = (float)(sums.b / m);
#pragma unroll
        for (int e = 0; e < EPT; e++)
            if (int i = threadIdx.x + e * THREADS; i < packs) {
                Pack p = kept_x[i];
                const Pack q = kept_g[i];
                const Floats w = floats(weight, i, 1.0f);
                for (int k = 0; k < VEC; k++) {
                    float xhat = (to_float(p.v[k]) - mu) * r;
                    from_float(r * (to_float(q.v[k]) * w.v[k] - mean_g - xhat * mean_gx), p.v[k]);
                }
                gx[(index_t)row * packs + i] = p;
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
