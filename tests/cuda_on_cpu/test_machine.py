"""The stand-in for the GPU itself: what it runs, and what it refuses."""

import numpy as np
import pytest
from normalization_kernels import compare, draw

SOURCE = r"""
extern "C" __global__ void __launch_bounds__(128) reversed_sums(const float *x, float *y, int n) {
    __shared__ float room[128];
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    room[threadIdx.x] = i < n ? x[i] : 0.0f;
    __syncthreads();
    float v = room[blockDim.x - 1 - threadIdx.x];
    for (int k = 16; k; k >>= 1) v += __shfl_xor_sync(~0u, v, k);
    if (i < n) y[i] = v;
}
extern "C" __global__ void half_of_them_wait(float *y) {
    if (threadIdx.x < 32) __syncthreads();
    y[threadIdx.x] = 1;
}
extern "C" __global__ void one_too_far(float *y, int n) { if (threadIdx.x <= n) y[threadIdx.x] = 1; }
extern "C" __global__ void __cluster_dims__(4, 1, 1) ranks(const int *x, int *y) {
    extern __shared__ int mine[];
    if (threadIdx.x == 0) mine[0] = x[blockIdx.x];
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
    if (threadIdx.x == 0) {
        int sum = 0;
        for (int r = 0; r < 4; r++) sum += *cuda_on_cpu::remote(mine, r);
        y[blockIdx.x] = sum;
    }
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
"""


def test_threads_share_memory_and_shuffle(cupy):
    x = np.random.default_rng(0).standard_normal(300).astype(np.float32)
    run = cupy.RawModule(code=SOURCE).get_function("reversed_sums")
    padded = np.concatenate([x, np.zeros(84, np.float32)]).reshape(3, 4, 32)
    wanted = np.repeat(padded[:, ::-1].astype(np.float64).sum(2), 32)[:300]
    for _ in range(2):  # once in each order of the threads
        y = cupy.empty(300, np.float32)
        run((3,), (128,), (cupy.asarray(x), y, np.int32(300)))
        assert np.abs(y.get() - wanted).max() < 1e-5


def test_blocks_of_a_cluster_read_from_each_other(cupy):
    x = np.arange(8, dtype=np.int32)
    y = cupy.empty(8, np.int32)
    cupy.RawModule(code=SOURCE).get_function("ranks")((8,), (64,), (cupy.asarray(x), y), shared_mem=4)
    assert y.get().tolist() == [6] * 4 + [22] * 4


@pytest.mark.parametrize(("name", "block", "arguments", "message"), [
    ("half_of_them_wait", 64, lambda c: (c.empty(64, np.float32),), "waits at __syncthreads"),
    ("one_too_far", 64, lambda c: (c.empty(8, np.float32), np.int32(8)), "wrote beside array 0"),
    ("one_too_far", 64, lambda c: (c.empty(8, np.float32), 8), "argument 2: another type"),
    ("one_too_far", 64, lambda c: (c.empty(8, np.float16), np.int32(1)), "argument 1: other elements"),
    ("one_too_far", 64, lambda c: (c.empty(8, np.float32),), "1 arguments for 2 parameters"),
    ("reversed_sums", 256, lambda c: (*[c.empty(8, np.float32)] * 2, np.int32(1)), "blocks of 256 threads"),
    ("ranks", 32, lambda c: (*[c.empty(8, np.int32)] * 2,), "multiples of 4 blocks"),
])
def test_mistakes_are_found(cupy, name, block, arguments, message):
    with pytest.raises(RuntimeError, match=message):
        cupy.RawModule(code=SOURCE).get_function(name)((1,), (block,), arguments(cupy))


def test_arrays_of_the_host_are_refused_and_give_none(cupy):
    x = cupy.asarray(np.ones(3))
    with pytest.raises(TypeError, match="not allowed"):
        np.asarray(x)
    with pytest.raises(TypeError, match="Unsupported"):
        x + np.ones(3)
    assert (x[1:] * 2).get().tolist() == [2, 2]
    assert x[1:].base is x


@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=["float32", "float16"])
@pytest.mark.parametrize(("kind", "shape", "inner"), [("batch", (64, 3, 7, 9), 3), ("batch", (300, 33), 33),
                                                      ("layer", (40, 1000), 1000)], ids=str)
def test_normalizations_run(cupy, kind, shape, inner, dtype):
    compare(kind, inner, draw(shape, inner), "cuda", dtype, True, 2e-5 if dtype is np.float32 else 6e-3)
