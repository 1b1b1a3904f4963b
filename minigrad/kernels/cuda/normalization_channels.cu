// Sets that consist of segments: BatchNorm's channels, GroupNorm's groups, InstanceNorm's channels of an example.
//
// Every element is read from global memory once where a cluster's shared memory holds the set ("staged"), else again for
// the second pass ("reread"). Beside what normalization.cuh wants, compiled with
//
//     GROUPED    0: a set is a channel c of (N, C, L), its segments the N examples; y may go through an activation
//                1: a set is a group of (N, G, J, L), its segments the J channels, which have parameters of their own
//     ACTIVATION 0, 1 or 2: none, ReLU, sigmoid (0 if GROUPED)
//     TEAM       threads that share a segment in grouped_backward: a power of two up to 32, or THREADS

#include "normalization.cuh"

// Where sets lie, in packs: set s begins at s * apart, and has `segments` of `packs`, one every `stride`.
struct Sets {
    int segments, packs, apart, stride;
    __device__ Sets(int segments, int packs, int channels)
        : segments(segments), packs(packs), apart(GROUPED ? segments * packs : packs),
          stride(GROUPED ? packs : channels * packs) {}
    __device__ int place(int set, int segment, int pack) const { return set * apart + segment * stride + pack; }
};

// What one block has of a set: `count` packs from `begin` on, counted over all segments. A cluster takes every `step`-th
// set; a slot of shared memory is filled for the next one as soon as its last use is over.
struct Share {
    int set, step, rank, begin, count;
    __device__ explicit Share(int packs) {
        set = blockIdx.x / BLOCKS;
        step = gridDim.x / BLOCKS;
        rank = blockIdx.x % BLOCKS;
        begin = (int)((index_t)packs * rank / BLOCKS);
        count = (int)((index_t)packs * (rank + 1) / BLOCKS) - begin;
    }
};

// A thread's way through a share without a division at every step: pack i of the share, in a segment, is at `at`.
struct Walk {
    const int end, packs, over, steps, rest, jump;
    int i, segment, pack, at;
    __device__ Walk(const Share &share, const Sets &sets)
        : end(share.count), packs(sets.packs), over(sets.stride - sets.packs), steps(THREADS / sets.packs),
          rest(THREADS % sets.packs), jump(steps * sets.stride + rest), i(threadIdx.x),
          segment((share.begin + i) / packs), pack((share.begin + i) % packs), at(sets.place(share.set, segment, pack)) {}
    __device__ bool more() const { return i < end; }
    __device__ void next() {
        i += THREADS;
        pack += rest;
        segment += steps;
        at += jump;
        if (pack >= packs) {
            pack -= packs;
            segment++;
            at += over;
        }
    }
};

// ------------------------------------------------------------------ forward

template <bool STAGED>
__device__ void forward(const T *x_, const T *residual_, const float *weight, const float *bias, T *y_, float *mean_,
                        float *variance_, float *rstd_, int count, int segments, int channels, int packs, double eps) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ Exchange exchange;
    Pack *kept = (Pack *)memory, *y = (Pack *)y_;
    const Pack *x = (const Pack *)x_, *residual = (const Pack *)residual_;
    const Sets sets(segments, packs, channels);
    const double per_element = 1 / ((double)segments * packs * VEC);
    Share share(segments * packs);
    if (STAGED) {
        for (Walk w(share, sets); w.more(); w.next()) stage(kept + w.i, x + w.at);
        commit();
    }
    for (int turn = 0; share.set < count; share.set += share.step, turn ^= 1) {
        const float s = to_float(x[sets.place(share.set, 0, 0)].v[0]);
        if (STAGED) wait();
        const Pair own = moments(s, [&](auto take) {
            for (Walk w(share, sets); w.more(); w.next()) take(STAGED ? kept[w.i] : x[w.at]);
        });
        const Statistics found(cluster_sum(own, exchange, turn), per_element, s, eps);
        const int first = GROUPED ? share.set % (channels / segments) * segments : share.set;  // parameters' first place
        const int ahead = share.set + share.step < count ? share.step * sets.apart : 0;
        for (Walk w(share, sets); w.more(); w.next()) {
            const int c = GROUPED ? first + w.segment : first;
            const float a = found.rstd * (weight ? weight[c] : 1.0f), b = (bias ? bias[c] : 0.0f) - found.rest * a;
            Pack p = STAGED ? kept[w.i] : x[w.at], q;
            if (residual) q = residual[w.at];
            for (int k = 0; k < VEC; k++) {
                float v = (to_float(p.v[k]) - found.near) * a + b;
                if (residual) v += to_float(q.v[k]);
                from_float(activated(v, ACTIVATION), p.v[k]);
            }
            y[w.at] = p;
            if (STAGED && ahead) stage(kept + w.i, x + w.at + ahead);
        }
        if (STAGED) commit();
        if (share.rank == 0 && threadIdx.x == 0) {
            mean_[share.set] = found.near;
            variance_[share.set] = (float)found.variance;
            rstd_[share.set] = found.rstd;
        }
    }
    leave_cluster();
}

#define FORWARD_ARGUMENTS const T *x, const T *residual, const float *weight, const float *bias, T *y, float *mean, \
        float *variance, float *rstd, int count, int segments, int channels, int packs, double eps

extern "C" __global__ void CLUSTER forward_staged(FORWARD_ARGUMENTS) {
    forward<true>(x, residual, weight, bias, y, mean, variance, rstd, count, segments, channels, packs, eps);
}
extern "C" __global__ void CLUSTER forward_reread(FORWARD_ARGUMENTS) {
    forward<false>(x, residual, weight, bias, y, mean, variance, rstd, count, segments, channels, packs, eps);
}

// ------------------------------------------------------------------ backward of a set with one γ and β

#if !GROUPED
// g behind the activation is kept in place of g, and is the gradient of what was added before the activation.
template <bool STAGED>
__device__ void backward(const T *x_, const T *g_, const T *y_, const float *weight, const float *mean,
                         const float *rstd, T *gx_, T *gresidual_, float *gweight, float *gbias, int count,
                         int segments, int channels, int packs, int room_for) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ Exchange exchange;
    Pack *kept_x = (Pack *)memory, *kept_g = kept_x + room_for, *gx = (Pack *)gx_, *gresidual = (Pack *)gresidual_;
    const Pack *x = (const Pack *)x_, *g = (const Pack *)g_, *y = (const Pack *)y_;
    const Sets sets(segments, packs, channels);
    const double per_element = 1 / ((double)segments * packs * VEC);
    Share share(segments * packs);
    if (STAGED) {
        for (Walk w(share, sets); w.more(); w.next()) {
            stage(kept_x + w.i, x + w.at);
            stage(kept_g + w.i, g + w.at);
        }
        commit();
    }
    auto gradient = [&](Pack q, int at) {
        if (ACTIVATION == NONE) return q;
        const Pack p = y[at];
        for (int k = 0; k < VEC; k++) from_float(through(to_float(q.v[k]), to_float(p.v[k]), ACTIVATION), q.v[k]);
        return q;
    };
    for (int turn = 0; share.set < count; share.set += share.step, turn ^= 1) {
        const int c = share.set, ahead = c + share.step < count ? share.step * sets.apart : 0;
        const float mu = mean[c], r = rstd[c];
        if (STAGED) wait();
        float sum = 0, product = 0;
        for (Walk w(share, sets); w.more(); w.next()) {
            const Pack p = STAGED ? kept_x[w.i] : x[w.at], q = gradient(STAGED ? kept_g[w.i] : g[w.at], w.at);
            if (STAGED && ACTIVATION != NONE) kept_g[w.i] = q;
            if (gresidual) gresidual[w.at] = q;
            for (int k = 0; k < VEC; k++) {
                const float h = to_float(q.v[k]);
                sum += h;
                product += h * ((to_float(p.v[k]) - mu) * r);  // times r here: at |x| of 1e30 the sum would overflow
            }
        }
        const Pair sums = cluster_sum({sum, product}, exchange, turn);
        // Multiplied by r once here and once below: r² underflows at |x| of 1e20.
        const float a = r * (weight ? weight[c] : 1.0f), b = (float)(-sums.a * per_element);
        const float slope = (float)(-sums.b * per_element) * r;
        for (Walk w(share, sets); w.more(); w.next()) {
            Pack p = STAGED ? kept_x[w.i] : x[w.at];
            const Pack q = STAGED ? kept_g[w.i] : gradient(g[w.at], w.at);
            for (int k = 0; k < VEC; k++)
                from_float((to_float(q.v[k]) + ((to_float(p.v[k]) - mu) * slope + b)) * a, p.v[k]);
            gx[w.at] = p;
            if (STAGED && ahead) {
                stage(kept_x + w.i, x + w.at + ahead);
                stage(kept_g + w.i, g + w.at + ahead);
            }
        }
        if (STAGED) commit();
        if (share.rank == 0 && threadIdx.x == 0) {
            if (gbias) gbias[c] = (float)sums.a;
            if (gweight) gweight[c] = (float)sums.b;
        }
    }
    leave_cluster();
}

#define BACKWARD_ARGUMENTS const T *x, const T *g, const T *y, const float *weight, const float *mean, \
        const float *rstd, T *gx, T *gresidual, float *gweight, float *gbias, int count, int segments, int channels, \
        int packs, int room_for

extern "C" __global__ void CLUSTER backward_staged(BACKWARD_ARGUMENTS) {
    backward<true>(x, g, y, weight, mean, rstd, gx, gresidual, gweight, gbias, count, segments, channels, packs,
                   room_for);
}
extern "C" __global__ void CLUSTER backward_reread(BACKWARD_ARGUMENTS) {
    backward<false>(x, g, y, weight, mean, rstd, gx, gresidual, gweight, gbias, count, segments, channels, packs,
                    room_for);
}
#endif

// ------------------------------------------------------------------ backward of a set with γ and β for each segment
// A block has of every segment the packs from `begin`, `width` of them; teams of threads take segments in turn. What it
// finds for the parameters goes to `partial` (2, N * BLOCKS, C).

#if GROUPED
template <bool STAGED>
__device__ void grouped_backward(const T *x_, const T *g_, const float *weight, const float *mean, const float *rstd,
                                 T *gx_, float *partial, int count, int segments, int channels, int packs,
                                 int room_for) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ Exchange exchange;
    __shared__ Pair rooms[2][32];
    Pack *kept_x = (Pack *)memory, *kept_g = kept_x + room_for, *gx = (Pack *)gx_;
    const Pack *x = (const Pack *)x_, *g = (const Pack *)g_;
    const Sets sets(segments, packs, channels);
    const double per_element = 1 / ((double)segments * packs * VEC);
    Share share(packs);
    const int groups = channels / segments, width = share.count, team = threadIdx.x / TEAM, lane = threadIdx.x % TEAM;
    int origin = sets.place(share.set, 0, share.begin);
    if (STAGED) {
        for (int j = team; j < segments; j += THREADS / TEAM)
            for (int i = lane; i < width; i += TEAM) {
                stage(kept_x + j * width + i, x + origin + j * packs + i);
                stage(kept_g + j * width + i, g + origin + j * packs + i);
            }
        commit();
    }
    for (int turn = 0, round = 0; share.set < count; share.set += share.step, turn ^= 1) {
        const int first = share.set % groups * segments;  // the channel of the set's first segment
        const int ahead = share.set + share.step < count ? share.step * sets.apart : 0;
        const float mu = mean[share.set], r = rstd[share.set];
        if (STAGED) wait();
        Pair total = {0, 0};
        for (int next = 0; next < segments; next += THREADS / TEAM, round ^= 1) {  // together, for all sum together
            const int j = next + team, c = first + j;
            float sum = 0, product = 0;
            if (j < segments)
                for (int i = lane; i < width; i += TEAM) {
                    const int at = origin + j * packs + i;
                    const Pack p = STAGED ? kept_x[j * width + i] : x[at], q = STAGED ? kept_g[j * width + i] : g[at];
                    for (int k = 0; k < VEC; k++) {
                        sum += to_float(q.v[k]);
                        product += to_float(q.v[k]) * ((to_float(p.v[k]) - mu) * r);
                    }
                }
            const Pair sums = TEAM > 32 ? block_sum({sum, product}, rooms[round]) : warp_sum({sum, product}, TEAM);
            if (lane == 0 && j < segments) {
                if (partial) {
                    const index_t row = share.set / groups * BLOCKS + share.rank, rows = count / groups * BLOCKS;
                    partial[row * channels + c] = (float)sums.b;
                    partial[(rows + row) * channels + c] = (float)sums.a;
                }
                const double gamma = weight ? weight[c] : 1.0f;
                total.a += gamma * sums.a;
                total.b += gamma * sums.b;
            }
        }
        const Pair sums = cluster_sum(total, exchange, turn);
        const float b = (float)(-sums.a * per_element), slope = (float)(-sums.b * per_element) * r;
        for (int j = team; j < segments; j += THREADS / TEAM) {
            const float gamma = weight ? weight[first + j] : 1.0f;
            for (int i = lane; i < width; i += TEAM) {
                const int at = origin + j * packs + i, here = j * width + i;
                Pack p = STAGED ? kept_x[here] : x[at];
                const Pack q = STAGED ? kept_g[here] : g[at];
                for (int k = 0; k < VEC; k++)
                    from_float((to_float(q.v[k]) * gamma + ((to_float(p.v[k]) - mu) * slope + b)) * r, p.v[k]);
                gx[at] = p;
                if (STAGED && ahead) {
                    stage(kept_x + here, x + at + ahead);
                    stage(kept_g + here, g + at + ahead);
                }
            }
        }
        if (STAGED) commit();
        origin += ahead;
    }
    leave_cluster();
}

#define GROUPED_ARGUMENTS const T *x, const T *g, const float *weight, const float *mean, const float *rstd, T *gx, \
        float *partial, int count, int segments, int channels, int packs, int room_for

extern "C" __global__ void CLUSTER grouped_backward_staged(GROUPED_ARGUMENTS) {
    grouped_backward<true>(x, g, weight, mean, rstd, gx, partial, count, segments, channels, packs, room_for);
}
extern "C" __global__ void CLUSTER grouped_backward_reread(GROUPED_ARGUMENTS) {
    grouped_backward<false>(x, g, weight, mean, rstd, gx, partial, count, segments, channels, packs, room_for);
}
#endif
