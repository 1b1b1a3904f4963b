// What the kernels of the normalizations share: elements and packs of them, staging, sums over blocks, statistics.
//
// Compiled with  ELEMENT type of the elements: float, __half or __nv_bfloat16 (statistics and parameters are float)
//                HALF    whether that is one of the two of 16 bits
//                VEC     elements in one access of a thread, of at most 16 bytes
//                THREADS threads in a block
//                BLOCKS  blocks that share one set (a cluster), for kernels that use clusters
//
// Sums are of d = x - s, s being the first element of the set: exact for constant sets, and without cancellation at
// large means. A thread sums its own few elements in float and hands on doubles, in which nothing cancels or overflows.

#include "elements.cuh"

struct alignas(sizeof(T) * VEC) Pack { T v[VEC]; };

// The float parameters that belong to a pack.
struct alignas(VEC >= 4 ? 16 : 4 * VEC) Floats { float v[VEC]; };

// ------------------------------------------------------------------ shared memory, filled asynchronously
// A thread reads back only what it staged itself, so no barrier is needed. Before Ampere nothing is asynchronous.

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <class P> __device__ __forceinline__ void stage(P *to, const P *from) { *to = *from; }
__device__ __forceinline__ void commit() {}
__device__ __forceinline__ void wait() {}
#else
template <class P> __device__ __forceinline__ void stage(P *to, const P *from) {
    if (sizeof(P) < 4) {
        *to = *from;
        return;
    }
    unsigned address = (unsigned)__cvta_generic_to_shared(to);
    if (sizeof(P) == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from));
    else if (sizeof(P) == 8)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(address), "l"(from));
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(from));
}

__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
__device__ __forceinline__ void wait() { asm volatile("cp.async.wait_all;" ::: "memory"); }
#endif

// ------------------------------------------------------------------ sums over part of a warp, a block, a cluster

struct Pair { double a, b; };

// Over `lanes` neighbouring threads, a power of two up to 32. All threads of the warp must call it.
__device__ __forceinline__ Pair warp_sum(Pair p, int lanes = 32) {
    for (int k = lanes / 2; k; k >>= 1) {
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

#ifdef BLOCKS
__device__ __forceinline__ void cluster_barrier() {
    __syncwarp();  // "aligned" wants all threads of the warp at the same instruction
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// What stands at the same place of shared memory in another block of the cluster.
__device__ __forceinline__ double remote(const double *local, int rank) {
    unsigned here = (unsigned)__cvta_generic_to_shared(local), there;
    double value;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(rank));
    asm volatile("ld.shared::cluster.f64 %0, [%1];" : "=d"(value) : "r"(there) : "memory");
    return value;
}

struct Exchange { Pair rooms[2][32], slots[2]; };

// `turn` alternates between 0 and 1: who writes has seen all arrive at the barrier in between, so nobody still reads what
// was written two sums ago. After the last sum, and before the block ends, comes `leave_cluster`.
__device__ __forceinline__ Pair cluster_sum(Pair p, Exchange &exchange, int turn) {
    p = block_sum(p, exchange.rooms[turn]);
    if (BLOCKS == 1) return p;
    Pair *slot = &exchange.slots[turn];
    if (threadIdx.x == 0) *slot = p;
    cluster_barrier();
    p = {0, 0};
    for (int r = 0; r < BLOCKS; r++) {
        p.a += remote(&slot->a, r);
        p.b += remote(&slot->b, r);
    }
    return p;
}

// Nobody leaves while another may read its sums.
__device__ __forceinline__ void leave_cluster() {
    if (BLOCKS > 1) cluster_barrier();
}

#if BLOCKS > 1
#define CLUSTER __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(THREADS)
#else
#define CLUSTER __launch_bounds__(THREADS)
#endif
#endif

// ------------------------------------------------------------------ statistics

// What a thread found in its own packs, as (sum of x - s, sum of (x - s)²); `each(f)` calls f for every one of them. The
// squares are summed about the thread's own mean, in which nothing cancels, and moved to s in double; beyond float both
// sums are taken again.
template <class Each> __device__ __forceinline__ Pair moments(float s, Each each) {
    int count = 0;
    float sum = 0;
    each([&](const Pack &p) {
        for (int k = 0; k < VEC; k++) sum += to_float(p.v[k]) - s;
        count += VEC;
    });
    if (!count) return {0, 0};
    double shifted = sum;
    if (!(fabsf(sum) < 3e38f)) {
        shifted = 0;
        each([&](const Pack &p) {
            for (int k = 0; k < VEC; k++) shifted += (double)to_float(p.v[k]) - s;
        });
    }
    const float own = (float)(s + shifted / count);
    float squares = 0;
    each([&](const Pack &p) {
        for (int k = 0; k < VEC; k++) {
            const float d = to_float(p.v[k]) - own;
            squares += d * d;
        }
    });
    double total = squares;
    if (!(squares < 3e38f)) {
        total = 0;
        each([&](const Pack &p) {
            for (int k = 0; k < VEC; k++) {
                const double d = (double)to_float(p.v[k]) - own;
                total += d * d;
            }
        });
    }
    const double e = (double)own - s;
    return {shifted, total + e * (2 * shifted - count * e)};
}

// (0, sum of x²) of a thread's own packs, for what is not centred.
template <class Each> __device__ __forceinline__ Pair squares(Each each) {
    float sum = 0;
    each([&](const Pack &p) {
        for (int k = 0; k < VEC; k++) sum += to_float(p.v[k]) * to_float(p.v[k]);
    });
    if (sum < 3e38f) return {0, sum};
    double total = 0;
    each([&](const Pack &p) {
        for (int k = 0; k < VEC; k++) total += (double)to_float(p.v[k]) * to_float(p.v[k]);
    });
    return {0, total};
}

// What all threads of a set need to know: y = ((x - near) - rest) * rstd, and the variance in double.
struct Statistics {
    double variance;
    float near, rest, rstd;
    __device__ Statistics(Pair sums, double per_element, float s, double eps) {
        const double offset = sums.a * per_element, mean = s + offset;
        variance = sums.b * per_element - offset * offset;
        if (variance < 0) variance = 0;  // not fmax, which would hide a NaN
        near = (float)mean;
        rest = (float)(mean - near);  // what float loses of the mean: half its last place, which counts at large means
        const double v = variance + eps;
        rstd = v < 1e37 && v > 1e-37 ? 1.0f / sqrtf((float)v) : (float)rsqrt(v);
    }
};

// ------------------------------------------------------------------ activations

enum { NONE, RELU, SIGMOID };

__device__ __forceinline__ float activated(float y, int activation) {
    if (activation == RELU) return y < 0 ? 0.0f : y;  // NaN stays
    if (activation == SIGMOID) return 1.0f / (1.0f + expf(-y));
    return y;
}

// The gradient behind an activation that gave y.
__device__ __forceinline__ float through(float g, float y, int activation) {
    if (activation == RELU) return y > 0 ? g : 0.0f;
    if (activation == SIGMOID) return g * (y * (1.0f - y));
    return g;
}
