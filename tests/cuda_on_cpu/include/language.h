// Keywords, built-in variables, types and functions of CUDA C++, in terms of cuda_on_cpu.h.
#pragma once

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __restrict__ __restrict
#define __shared__ static thread_local
#define __align__(n) alignas(n)
#define __launch_bounds__(...) .bounds(__VA_ARGS__)
#define __cluster_dims__(x, y, z) .cluster(x, y, z)

#define LAUNCHER_OF(name) launch_##name
#define LAUNCHER(name) LAUNCHER_OF(name)  // the name may be a parameter of a macro

#define threadIdx (cuda_on_cpu::block->current->thread)
#define blockIdx (cuda_on_cpu::block->index)
#define blockDim (*(const dim3 *)cuda_on_cpu::block->launch->block)
#define gridDim (*(const dim3 *)cuda_on_cpu::block->launch->grid)
constexpr int warpSize = 32;

inline void __syncthreads() {
    using cuda_on_cpu::block;
    if (++block->arrived == (unsigned)block->threads) block->arrived = 0, block->turn++;
    else cuda_on_cpu::wait_while(block->turn, block->turn, "__syncthreads()");
}
inline void __syncwarp(unsigned mask = ~0u) { cuda_on_cpu::exchange(mask, 0, "__syncwarp()"); }
template <class T> T __shfl_sync(unsigned mask, T x, int from, int width = 32) {
    const int lane = cuda_on_cpu::lane();
    return cuda_on_cpu::shuffle(mask, x, lane / width * width + from % width, "__shfl_sync()");
}
template <class T> T __shfl_xor_sync(unsigned mask, T x, int bits, int = 32) {
    return cuda_on_cpu::shuffle(mask, x, cuda_on_cpu::lane() ^ bits, "__shfl_xor_sync()");
}
template <class T> T __shfl_down_sync(unsigned mask, T x, int by, int width = 32) {
    const int lane = cuda_on_cpu::lane();
    return cuda_on_cpu::shuffle(mask, x, lane % width + by < width ? lane + by : lane, "__shfl_down_sync()");
}
template <class T> T __shfl_up_sync(unsigned mask, T x, int by, int width = 32) {
    const int lane = cuda_on_cpu::lane();
    return cuda_on_cpu::shuffle(mask, x, lane % width >= by ? lane - by : lane, "__shfl_up_sync()");
}
inline unsigned __ballot_sync(unsigned mask, int x) { return cuda_on_cpu::ballot(mask, x != 0); }
inline int __any_sync(unsigned mask, int x) { return __ballot_sync(mask, x) != 0; }
inline int __all_sync(unsigned mask, int x) { return __ballot_sync(mask, !x) == 0; }

inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() {}
template <class T> T __ldg(const T *p) { return *p; }
template <class T> T __ldcs(const T *p) { return *p; }
template <class T> void __stcs(T *p, T x) { *p = x; }
inline size_t __cvta_generic_to_shared(const void *p) { return cuda_on_cpu::shared_address(p); }
[[noreturn]] inline void __trap() { cuda_on_cpu::fail("__trap()"); }

template <class T, class F> T atomic_change(T *p, F change) {  // blocks of a cluster may meet here
    T old, next;
    __atomic_load(p, &old, __ATOMIC_SEQ_CST);
    do next = change(old);
    while (!__atomic_compare_exchange(p, &old, &next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return old;
}
template <class T> T atomicAdd(T *p, T x) { return atomic_change(p, [x](T old) { return (T)(old + x); }); }
template <class T> T atomicMax(T *p, T x) { return atomic_change(p, [x](T old) { return old < x ? x : old; }); }
template <class T> T atomicExch(T *p, T x) { return atomic_change(p, [x](T) { return x; }); }
template <class T> T atomicCAS(T *p, T is, T x) { return atomic_change(p, [=](T old) { return old == is ? x : old; }); }
inline unsigned atomicInc(unsigned *p, unsigned most) {
    return atomic_change(p, [most](unsigned old) { return old >= most ? 0 : old + 1; });
}

// ------------------------------------------------------------------ vectors

#define VECTORS(T, name, size)                                                                    \
    struct alignas(2 * size) name##2 { T x, y; };                                                 \
    struct name##3 { T x, y, z; };                                                                \
    struct alignas(4 * size > 16 ? 16 : 4 * size) name##4 { T x, y, z, w; };                      \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                    \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTORS(float, float, 4)
VECTORS(int, int, 4)
VECTORS(double, double, 8)
VECTORS(unsigned char, uchar, 1)
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// ------------------------------------------------------------------ half precision

template <class To, class From> To bits_as(From x) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To y;
    memcpy(&y, &x, sizeof(To));
    return y;
}

struct __half { uint16_t bits; };
struct __nv_bfloat16 { uint16_t bits; };

inline float __half2float(__half h) {
    const uint32_t sign = (uint32_t)(h.bits & 0x8000) << 16, exponent = h.bits >> 10 & 31, fraction = h.bits & 1023;
    if (exponent == 31) return bits_as<float>(sign | 0x7F800000 | fraction << 13);
    const float magnitude = exponent ? ldexpf((float)(1024 + fraction), (int)exponent - 25) : ldexpf((float)fraction, -24);
    return sign ? -magnitude : magnitude;
}
inline __half __float2half_rn(float x) {
    const uint32_t bits = bits_as<uint32_t>(x), sign = bits >> 16 & 0x8000;
    const float magnitude = fabsf(x);
    if (x != x) return {(uint16_t)(sign | 0x7E00)};
    if (magnitude >= 65520) return {(uint16_t)(sign | 0x7C00)};
    if (magnitude < 0x1p-14f) return {(uint16_t)(sign | (uint32_t)rintf(magnitude * 0x1p24f))};
    const uint32_t kept = bits & 0x7FFFFFFF;
    return {(uint16_t)(sign | ((kept - 0x38000000 + 0xFFF + (kept >> 13 & 1)) >> 13))};
}
inline float __bfloat162float(__nv_bfloat16 b) { return bits_as<float>((uint32_t)b.bits << 16); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    const uint32_t bits = bits_as<uint32_t>(x);
    if (x != x) return {0x7FFF};
    return {(uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}
inline __half __float2half(float x) { return __float2half_rn(x); }
inline __nv_bfloat16 __float2bfloat16(float x) { return __float2bfloat16_rn(x); }

// ------------------------------------------------------------------ mathematics

inline float cuda_rsqrtf(float x) { return (float)(1 / sqrt((double)x)); }
inline double cuda_rsqrt(double x) { return 1 / sqrt(x); }
#define rsqrtf cuda_rsqrtf  // some C libraries have functions of these names
#define rsqrt cuda_rsqrt
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return cuda_rsqrtf(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __dsqrt_rn(double x) { return sqrt(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline int __float_as_int(float x) { return bits_as<int>(x); }
inline float __int_as_float(int x) { return bits_as<float>(x); }
inline unsigned __float_as_uint(float x) { return bits_as<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return bits_as<float>(x); }
inline unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((uint64_t)x * y >> 32); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
template <class A, class B> constexpr auto min(A a, B b) { return b < a ? b : a; }
template <class A, class B> constexpr auto max(A a, B b) { return a < b ? b : a; }

namespace cuda_on_cpu {
// What the caller says of an array's elements: 0 for structures, which nobody checks.
template <class T> constexpr int kind_of() {
    if (std::is_same_v<T, __nv_bfloat16>) return 'g';
    if (std::is_same_v<T, __half> || std::is_floating_point_v<T>) return 'f';
    return std::is_integral_v<T> ? 'i' : 0;
}
}  // namespace cuda_on_cpu
