// Elementwise operations whose texts take several passes over memory, in one.
//
// Compiled with VEC, the elements of one access: 16 bytes' worth, or 1 for arrays that are not aligned or of another
// length. A kernel takes one or two arrays of the elements' dtype; dropout's second is bool.

#include "elements.cuh"

template <class E> struct alignas(sizeof(E) * VEC) Pack { E v[VEC]; };

__device__ __forceinline__ float sigmoid(float x) { return 1 / (1 + expf(-x)); }
__device__ __forceinline__ float normal(float x) { return 0.5f * (1 + erff(x * 0.70710678f)); }
__device__ __forceinline__ float bent(float x) { return 0.79788456f * (x + 0.044715f * x * x * x); }

#define UNARY(name, formula)                                                                     \
    extern "C" __global__ void name(const T *x_, T *y_, unsigned packs) {                        \
        FOR_MINE(i, packs) {                                                                     \
            Pack<T> p = ((const Pack<T> *)x_)[i];                                                \
            for (int k = 0; k < VEC; k++) {                                                      \
                const float x = to_float(p.v[k]);                                                \
                from_float(formula, p.v[k]);                                                     \
            }                                                                                    \
            ((Pack<T> *)y_)[i] = p;                                                              \
        }                                                                                        \
    }

#define BINARY(name, B, formula)                                                                 \
    extern "C" __global__ void name(const T *g_, const B *b_, T *out, float scale, unsigned packs) { \
        FOR_MINE(i, packs) {                                                                     \
            Pack<T> p = ((const Pack<T> *)g_)[i];                                                \
            const Pack<B> q = ((const Pack<B> *)b_)[i];                                          \
            for (int k = 0; k < VEC; k++) {                                                      \
                const float g = to_float(p.v[k]), b = to_float(q.v[k]);                          \
                from_float(formula, p.v[k]);                                                     \
            }                                                                                    \
            ((Pack<T> *)out)[i] = p;                                                             \
        }                                                                                        \
    }

__device__ __forceinline__ float to_float(bool x) { return x; }

UNARY(sigmoid_forward, sigmoid(x))
UNARY(silu_forward, x * sigmoid(x))
UNARY(gelu_forward, x * normal(x))
UNARY(gelu_tanh_forward, 0.5f * x * (1 + tanhf(bent(x))))

// g is the gradient of y, b what the operation keeps: y for the first three, x for the others.
BINARY(relu_backward, T, b > 0 ? g : 0.0f)
BINARY(sigmoid_backward, T, g * (b * (1 - b)))
BINARY(tanh_backward, T, g * (1 - b * b))
BINARY(silu_backward, T, g * (sigmoid(b) * (1 + b * (1 - sigmoid(b)))))
BINARY(gelu_backward, T, g * (normal(b) + b * expf(-0.5f * b * b) * 0.39894228f))
BINARY(gelu_tanh_backward, T, g * (0.5f * (1 + tanhf(bent(b))) + 0.5f * b * (1 - tanhf(bent(b)) * tanhf(bent(b))) *
                                   0.79788456f * (1 + 0.134145f * b * b)))
// g is what dropout is given, in either direction.
BINARY(dropout, bool, b != 0 ? g * scale : 0.0f)
