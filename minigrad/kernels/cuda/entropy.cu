// Cross-entropy of scores x and targets q along classes, −Σ_c q_c·ln softmax(x)_c, and its gradient.
//
// Compiled with ROW, the threads that share a row of adjacent classes: 32, several rows in a block, or a whole block.
// The maximum first, then the sum of exponentials; a row of a usual length is read from memory once, and from a cache
// after that. Sums over classes are float, sums over rows double.

#include "elements.cuh"

__device__ __forceinline__ float larger(float a, float b) { return a > b ? a : b; }

// Over the ROW threads of a row, the result to all of them.
template <class Join> __device__ __forceinline__ float joined(float v, Join join) {
    for (int k = 16; k; k >>= 1) v = join(v, __shfl_xor_sync(~0u, v, k));
#if ROW > 32
    __shared__ float room[ROW / 32];
    __syncthreads();  // an earlier use of the room is over
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    v = room[0];
    for (int k = 1; k < ROW / 32; k++) v = join(v, room[k]);
#endif
    return v;
}
__device__ __forceinline__ float row_max(float v) { return joined(v, [](float a, float b) { return larger(a, b); }); }
__device__ __forceinline__ float row_sum(float v) { return joined(v, [](float a, float b) { return a + b; }); }

// q·(−ln p): a class that is ruled out counts nothing, even with p = 0, while NaN in the scores stays NaN elsewhere.
__device__ __forceinline__ float term(float q, float logp) { return q == 0 ? 0.0f : -q * logp; }

// One of `losses` and `parts` is there: the result, or float numbers that are still to be added.
__device__ __forceinline__ void store(float loss, index_t at, T *losses, float *parts) {
    if (parts) parts[at] = loss;
    else from_float(loss, losses[at]);
}

// ------------------------------------------------------------------ classes side by side: x (rows, classes)
// The grid has a thread's row for every row of x; a row is never without its threads, for all of them join.

extern "C" __global__ void rows_forward(const T *x, const T *q, T *losses, float *parts, int rows, int classes) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // with all of its warp
    x += (index_t)row * classes, q += (index_t)row * classes;
    float most = -INFINITE;
    for (int c = threadIdx.x; c < classes; c += ROW) most = larger(to_float(x[c]), most);
    most = row_max(most);
    float sum = 0;
    for (int c = threadIdx.x; c < classes; c += ROW) sum += expf(to_float(x[c]) - most);
    const float log_sum = logf(row_sum(sum));
    float loss = 0;
    for (int c = threadIdx.x; c < classes; c += ROW) loss += term(to_float(q[c]), to_float(x[c]) - most - log_sum);
    loss = row_sum(loss);
    if (threadIdx.x == 0) store(loss, row, losses, parts);
}

// gx = gy·(softmax(x)·Σq − q); gy is one number for each row, or with step 0 one for all.
extern "C" __global__ void rows_backward(const T *x, const T *q, const T *gy, T *gx, int rows, int classes, int step) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    x += (index_t)row * classes, q += (index_t)row * classes, gx += (index_t)row * classes;
    float most = -INFINITE, weight = 0, sum = 0;
    for (int c = threadIdx.x; c < classes; c += ROW) most = larger(to_float(x[c]), most);
    most = row_max(most);
    for (int c = threadIdx.x; c < classes; c += ROW) {
        sum += expf(to_float(x[c]) - most);
        weight += to_float(q[c]);
    }
    sum = row_sum(sum);
    const float scale = row_sum(weight) / sum, g = to_float(gy[(index_t)row * step]);
    for (int c = threadIdx.x; c < classes; c += ROW)
        from_float(g * (expf(to_float(x[c]) - most) * scale - to_float(q[c])), gx[c]);
}

// ------------------------------------------------------------------ classes apart: x (N, classes, length)

extern "C" __global__ void columns_forward(const T *x, const T *q, T *losses, float *parts, int classes, int length,
                                           unsigned count) {
    FOR_MINE(i, count) {
        const index_t start = (index_t)(i / length) * classes * length + i % length, end = start + (index_t)classes * length;
        float most = -INFINITE, sum = 0, loss = 0;
        for (index_t c = start; c < end; c += length) most = larger(to_float(x[c]), most);
        for (index_t c = start; c < end; c += length) sum += expf(to_float(x[c]) - most);
        const float log_sum = logf(sum);
        for (index_t c = start; c < end; c += length) loss += term(to_float(q[c]), to_float(x[c]) - most - log_sum);
        store(loss, i, losses, parts);
    }
}

extern "C" __global__ void columns_backward(const T *x, const T *q, const T *gy, T *gx, int classes, int length,
                                            unsigned count, int step) {
    FOR_MINE(i, count) {
        const index_t start = (index_t)(i / length) * classes * length + i % length, end = start + (index_t)classes * length;
        float most = -INFINITE, sum = 0, weight = 0;
        for (index_t c = start; c < end; c += length) most = larger(to_float(x[c]), most);
        for (index_t c = start; c < end; c += length) {
            sum += expf(to_float(x[c]) - most);
            weight += to_float(q[c]);
        }
        const float scale = weight / sum, g = to_float(gy[(index_t)i * step]);
        for (index_t c = start; c < end; c += length)
            from_float(g * (expf(to_float(x[c]) - most) * scale - to_float(q[c])), gx[c]);
    }
}

// ------------------------------------------------------------------ the sum of all losses, by one block

extern "C" __global__ void __launch_bounds__(1024) total(const float *parts, T *loss, int count) {
    __shared__ double room[32];
    double sum = 0;
    for (int i = threadIdx.x; i < count; i += 1024) sum += parts[i];
    for (int k = 16; k; k >>= 1) sum += __shfl_xor_sync(~0u, sum, k);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x) return;
    for (int k = 1; k < 32; k++) sum += room[k];
    from_float((float)sum, *loss);
}
