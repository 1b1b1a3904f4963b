// Keywords, built-in variables, types and functions of CUDA C++, in terms of cuda_on_cpu.h.
#pragma once

#define __global__
#define __device__
#define __forceinline__ inline
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

inline void __syncthreads() {
    using cuda_on_cpu::block;
    if (++block->arrived == (unsigned)block->threads) block->arrived = 0, block->turn++;
    else cuda_on_cpu::wait_while(block->turn, block->turn, "__syncthreads()");
}
inline void __syncwarp(unsigned mask = ~0u) { cuda_on_cpu::exchange(mask, 0, "__syncwarp()"); }
template <class T> T __shfl_xor_sync(unsigned mask, T x, int bits, int = 32) {
    return cuda_on_cpu::shuffle(mask, x, cuda_on_cpu::lane() ^ bits, "__shfl_xor_sync()");
}

inline size_t __cvta_generic_to_shared(const void *p) { return cuda_on_cpu::shared_address(p); }

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

// ------------------------------------------------------------------ mathematics

inline double cuda_rsqrt(double x) { return 1 / sqrt(x); }
#define rsqrt cuda_rsqrt  // some C libraries have a function of this name
inline float __int_as_float(int x) { return bits_as<float>(x); }
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
