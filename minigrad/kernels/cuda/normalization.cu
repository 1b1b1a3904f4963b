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
__device__ __forceinline__ void wait() { asm volatile("cp.async.wait_all;" ::: "memory"); }

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

// What a thread found in its own packs, as (sum of x - s, sum of (x - s)²); `at(i)` gives pack i. The squares are summed
// about the thread's own mean, in which nothing cancels, and moved to s in double; beyond float they are taken again.
template <class At> __device__ __forceinline__ Pair moments(int begin, int end, int step, float s, At at) {
    int count = 0;
    float sum = 0;
    for (int i = begin; i < end; i += step, count += VEC) {
        const Pack p = at(i);
        for (int k = 0; k < VEC; k++) sum += to_float(p.v[k]) - s;
    }
    if (!count) return {0, 0};
    double shifted = sum;
    if (!(fabsf(sum) < 3e38f)) {
        shifted = 0;
        for (int i = begin; i < end; i += step) {
            const Pack p = at(i);
            for (int k = 0; k < VEC; k++) shifted += (double)to_float(p.v[k]) - s;
        }
    }
    const float own = (float)(s + shifted / count);
    float squares = 0;
    for (int i = begin; i < end; i += step) {
        const Pack p = at(i);
        for (int k = 0; k < VEC; k++) {
            const float d = to_float(p.v[k]) - own;
            squares += d * d;
        }
    }
    double total = squares;
    if (!(squares < 3e38f)) {
        total = 0;
        for (int i = begin; i < end; i += step) {
            const Pack p = at(i);
            for (int k = 0; k < VEC; k++) {
                const double d = (double)to_float(p.v[k]) - own;
                total += d * d;
            }
        }
    }
    const double e = (double)own - s;
    return {shifted, total + e * (2 * shifted - count * e)};
}

// What all threads of a set need to know: y = ((x - mean) - rest) * rstd, and the statistics in double.
struct Statistics {
    double mean, variance;
    float near, rest, rstd;
    __device__ Statistics(Pair sums, double per_element, float s, double eps) {
        const double offset = sums.a * per_element;
        mean = s + offset;
        variance = fmax(sums.b * per_element - offset * offset, 0.0);
        near = (float)mean;
        rest = (float)(mean - near);  // what float loses of the mean: half its last place, which counts at large means
        const double v = variance + eps;
        rstd = v < 1e37 && v > 1e-37 ? 1.0f / sqrtf((float)v) : (float)rsqrt(v);
    }
};

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
#define FOR_PACKS(i, at)                                                                                      \
    int at = place(threadIdx.x, share, C, packs);                                                             \
    const int _jump = (THREADS / packs) * C * packs + THREADS % packs, _over = (C - 1) * packs;               \
    for (int i = threadIdx.x, _l = threadIdx.x % packs; i < share.count; i += THREADS, _l += THREADS % packs, \
             at += _jump, at += _l >= packs ? _over : 0, _l -= _l >= packs ? packs : 0)

__device__ __forceinline__ int place(int i, const Share &share, int C, int packs) {
    return ((share.n0 + i / packs) * C + share.c) * packs + i % packs;
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
    if (STAGED) {
        FOR_PACKS(i, at) stage(kept + i, x + at);
        commit();
    }
    const float s = to_float(x_[(index_t)c * packs * VEC]);
    if (STAGED) wait();
    auto read = [&](int i) { return STAGED ? kept[i] : x[place(i, share, C, packs)]; };
    const Pair sums = cluster_sum(moments(threadIdx.x, share.count, THREADS, s, read), room, &slot);
    const Statistics found(sums, 1 / ((double)N * packs * VEC), s, eps);
    const float a = found.rstd * (weight ? weight[c] : 1.0f), b = (bias ? bias[c] : 0.0f) - found.rest * a;
    FOR_PACKS(i, at) {
        Pack p = STAGED ? kept[i] : x[at];
        for (int k = 0; k < VEC; k++) from_float((to_float(p.v[k]) - found.near) * a + b, p.v[k]);
        y[at] = p;
    }
    if (share.rank == 0 && threadIdx.x == 0) {
        mean_[c] = found.near;
        variance_[c] = (float)found.variance;
        rstd_[c] = found.rstd;
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
    if (STAGED) {
        FOR_PACKS(i, at) {
            stage(kept_x + i, x + at);
            stage(kept_g + i, g + at);
        }
        commit();
    }
    const float mu = mean[c], r = rstd[c];
    if (STAGED) wait();
    float sum = 0, product = 0;
    for (int i = threadIdx.x; i < share.count; i += THREADS) {
        const int at = STAGED ? 0 : place(i, share, C, packs);
        const Pack p = STAGED ? kept_x[i] : x[at], q = STAGED ? kept_g[i] : g[at];
        for (int k = 0; k < VEC; k++) {
            const float h = to_float(q.v[k]);
            sum += h;
            product += h * (to_float(p.v[k]) - mu);
        }
    }
    const Pair sums = cluster_sum({sum, (double)product * r}, room, &slot);
    const double per_element = 1 / ((double)N * packs * VEC);
    // Multiplied by r once here and once below: r² underflows at |x| of 1e20.
    const float a = r * (weight ? weight[c] : 1.0f), b = (float)(-sums.a * per_element);
    const float slope = (float)(-sums.b * per_element) * r;
    FOR_PACKS(i, at) {
        Pack p = STAGED ? kept_x[i] : x[at];
        const Pack q = STAGED ? kept_g[i] : g[at];
        for (int k = 0; k < VEC; k++) from_float((to_float(q.v[k]) + ((to_float(p.v[k]) - mu) * slope + b)) * a, p.v[k]);
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
// A block takes every gridDim.x-th row. A slot of shared memory is filled for the next row as soon as its last use is
// over. The parameters stay in shared memory, where rows do not push them out.

#ifdef EPT
#define FOR_ROW(i) _Pragma("unroll") for (int _e = 0, i = threadIdx.x; _e < EPT; _e++, i += THREADS) if (i < packs)

__device__ __forceinline__ void keep(float *to, const float *from, float otherwise, int packs) {
    FOR_ROW(i) {
        Floats f;
        for (int k = 0; k < VEC; k++) f.v[k] = from ? from[i * VEC + k] : otherwise;
        ((Floats *)to)[i] = f;
    }
}

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
        const float s = to_float(x_[base * VEC]);
        wait();
        const Pair sums = moments(threadIdx.x, packs, THREADS, s, [&](int i) { return kept[i]; });
        const Statistics found(block_sum(sums, rooms[turn]), per_element, s, eps);
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
            mean_[row] = found.near;
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
        const float mu = mean[row], r = rstd[row];
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
        const float b = (float)(-sums.a * per_element), slope = (float)(-sums.b * per_element) * r;
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
