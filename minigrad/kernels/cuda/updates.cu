// Optimizers' updates of many parameters in one launch, each element read and written once.
//
// The same operations in the same order as the optimizers' texts, each rounded to float (compiled without joining
// products and sums): parameters come out bit for bit as the texts leave them. Parameters of half precision are updated
// in float and rounded once. But CuPy has all that it compiles take numbers below 2⁻¹²⁶ for 0, here as in the texts.

#include "elements.cuh"

#define MOST 64      // parameters in one launch, for what a launch is told has to fit 4 KiB
#define CHUNK 2048   // elements of one block
#define NUMBERS 8

// Addresses, lengths, and the block that starts with each; `wide` says which are aligned for four elements at a time.
struct Members {
    unsigned long long p[MOST], g[MOST], state[3][MOST];
    long long size[MOST];
    int first[MOST], wide[MOST];
    int count, flags;
};
struct Numbers { float v[NUMBERS]; };

#define DECAYED 1
#define MAXIMIZE 2
#define MOVING 4
#define DAMPED 8
#define NESTEROV 16
#define DECOUPLED 32
#define AMSGRAD 64

template <class E, int V> struct alignas(sizeof(E) * V) Some { E v[V]; };

// What a rule may change of one element: the parameter, and up to three numbers that are remembered of it.
struct Element { float p, state[3]; };

template <class Rule, int V>
__device__ __forceinline__ void run(const Members &all, int t, index_t start, int states, const float *n, Rule rule) {
    typedef Some<T, V> Elements;
    typedef Some<float, V> Floats;
    const index_t end = start + CHUNK < all.size[t] ? start + CHUNK : all.size[t];
    for (index_t i = start + (index_t)threadIdx.x * V; i < end; i += (index_t)blockDim.x * V) {
        Elements p = *(const Elements *)((T *)all.p[t] + i);
        const Elements g = *(const Elements *)((const T *)all.g[t] + i);
        Floats state[3] = {};
        for (int s = 0; s < 3; s++)
            if (states >> s & 1) state[s] = *(const Floats *)((float *)all.state[s][t] + i);
        for (int k = 0; k < V; k++) {
            Element e = {to_float(p.v[k]), {state[0].v[k], state[1].v[k], state[2].v[k]}};
            rule(e, to_float(g.v[k]), all.flags, n);
            from_float(e.p, p.v[k]);
            for (int s = 0; s < 3; s++) state[s].v[k] = e.state[s];
        }
        for (int s = 0; s < 3; s++)
            if (states >> s & 1) *(Floats *)((float *)all.state[s][t] + i) = state[s];
        *(Elements *)((T *)all.p[t] + i) = p;
    }
}

// `recorded`, where it is there, has the numbers of the formula: a launch that is replayed reads them anew.
template <class Rule>
__device__ __forceinline__ void update(const Members &all, const Numbers &given, const float *recorded, int numbers,
                                       int states, Rule rule) {
    float n[NUMBERS];
    for (int k = 0; k < NUMBERS; k++) n[k] = recorded && k < numbers ? recorded[k] : given.v[k];
    int t = 0;
    for (int past = all.count; past - t > 1;) {  // the last whose first block is not after this one
        const int middle = (t + past) / 2;
        if (all.first[middle] <= (int)blockIdx.x) t = middle;
        else past = middle;
    }
    const index_t start = (index_t)(blockIdx.x - all.first[t]) * CHUNK;
    if (all.wide[t]) run<Rule, 4>(all, t, start, states, n, rule);
    else run<Rule, 1>(all, t, start, states, n, rule);
}

extern "C" __global__ void sgd(const Members all, const Numbers given, const float *recorded, int numbers) {
    update(all, given, recorded, numbers, all.flags & MOVING ? 1 : 0, [](Element &e, float g, int flags, const float *n) {
        const float lr = n[0], momentum = n[1], decay = n[2], kept = n[3];
        float d = flags & MAXIMIZE ? -g : g;
        if (flags & DECAYED) d = d + e.p * decay;
        if (flags & MOVING) {
            const float b = e.state[0] * momentum + (flags & DAMPED ? d * kept : d);
            e.state[0] = b;
            d = flags & NESTEROV ? d + b * momentum : b;
        }
        e.p = e.p - d * lr;
    });
}

extern "C" __global__ void adam(const Members all, const Numbers given, const float *recorded, int numbers) {
    update(all, given, recorded, numbers, all.flags & AMSGRAD ? 7 : 3, [](Element &e, float g, int flags, const float *n) {
        const float new1 = n[0], beta2 = n[1], new2 = n[2], decay = n[3], size = n[4], little = n[5], shrink = n[6];
        float d = flags & MAXIMIZE ? -g : g;
        if (flags & DECAYED && !(flags & DECOUPLED)) d = d + e.p * decay;
        e.state[0] = e.state[0] + (d - e.state[0]) * new1;
        float w = e.state[1] * beta2 + d * d * new2;
        e.state[1] = w;
        if (flags & AMSGRAD) {
            w = w > e.state[2] || w != w ? w : e.state[2];  // NaN stays
            e.state[2] = w;
        }
        const float t = e.state[0] / (sqrtf(w) + little) * size;
        if (flags & DECAYED && flags & DECOUPLED) e.p = e.p * shrink;
        e.p = e.p - t;
    });
}
