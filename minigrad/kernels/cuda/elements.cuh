// Elements of any dtype, computed with as float. Compiled with ELEMENT (float, __half or __nv_bfloat16) and HALF (0, 1).

#if HALF
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#endif

typedef long long index_t;
typedef ELEMENT T;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ void from_float(float x, float &y) { y = x; }
#if HALF
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ void from_float(float x, __half &y) { y = __float2half_rn(x); }
__device__ __forceinline__ void from_float(float x, __nv_bfloat16 &y) { y = __float2bfloat16_rn(x); }
#endif

// i = this thread's first number, then every number as many threads further on, below n < 2³¹.
#define FOR_MINE(i, n) for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += gridDim.x * blockDim.x)

#define INFINITE __int_as_float(0x7F800000)
