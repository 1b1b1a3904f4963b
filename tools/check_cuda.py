"""Compile every CUDA source for sm_90 with the sets of macros that minigrad may ask for. Needs no GPU.

And once each for sm_75, the oldest that CUDA 13 knows, which has neither clusters nor asynchronous copies.

By NVRTC, the compiler that CuPy uses, from the packages nvidia-cuda-nvrtc, nvidia-cuda-runtime and nvidia-cuda-crt;
else by nvcc. Where neither can be had, the reason is printed and nothing fails. One line per source says how many sets
of macros were compiled, how many kernels are in them, and the most registers and bytes of spilled registers of one.
"""

import argparse
import ctypes
import functools
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from minigrad.kernels import cuda
from minigrad.kernels.cuda import launch

ARCHITECTURE, OLDEST = "sm_90", "sm_75"
#: What CuPy 14 tells NVRTC besides, whoever asks for the compilation.
CUPYS = ("-ftz=true", "--device-as-default-execution-space")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SPILLED = re.compile(r"(\d+) bytes spill stores")


# ------------------------------------------------------------------ NVRTC


@functools.cache
def nvrtc():
    """The library and the folders of headers, or None."""
    libraries, headers = [], set()
    for package in ("nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-cuda-crt"):
        try:
            files = distribution(package).files or []
        except PackageNotFoundError:
            return None
        libraries += [f.locate() for f in files if re.match(r"libnvrtc\.so", f.name)]
        headers |= {f.locate().parent for f in files if f.name in ("cuda_fp16.h", "nvrtc.h")}
    return (ctypes.CDLL(str(libraries[0])), tuple(map(str, headers))) if libraries else None


def by_nvrtc(file, macros, architecture):
    """Compile to machine code; the compiler's words, whether it worked."""
    library, headers = nvrtc()
    program = ctypes.c_void_p()
    source = launch.source(file).encode()
    library.nvrtcCreateProgram(ctypes.byref(program), source, f"{file}.cu".encode(), 0, None, None)
    options = [*launch.options(file, macros), *CUPYS, f"--gpu-architecture={architecture}", "--ptxas-options=-v",
               *(f"--include-path={folder}" for folder in headers)]
    failed = library.nvrtcCompileProgram(program, len(options),
                                         (ctypes.c_char_p * len(options))(*[o.encode() for o in options]))
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return log.value.decode(), not failed


# ------------------------------------------------------------------ nvcc


def by_nvcc(file, macros, architecture):
    """As `by_nvrtc`, by the compiler of a CUDA toolkit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{file}.cu"
        path.write_text(launch.source(file), encoding="utf-8")
        done = subprocess.run(["nvcc", f"-arch={architecture}", "-cubin", "-Xptxas=-v", *launch.options(file, macros),
                               "-o", path.with_suffix(".cubin"), path], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr, not done.returncode


# ------------------------------------------------------------------ all of them


def compiled(variant):
    """One source with one set of macros for one architecture, by whichever compiler there is."""
    *wanted, architecture = variant
    log, works = (by_nvrtc if nvrtc() else by_nvcc)(*wanted, architecture)
    return *wanted, architecture, works, log


def variants(every):
    """The (source, macros, architecture) to compile."""
    found = cuda.combinations(every)
    alone = {file: macros for file, macros in found if macros.get("BLOCKS", 1) == 1}
    return [*((*one, ARCHITECTURE) for one in found), *((*one, OLDEST) for one in alone.items())]


def main():
    """Compile all; the exit status says whether all of it worked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count(), help="compilers at a time")
    parser.add_argument("--all", action="store_true", help="also sets in which no two macros have a new pair of values")
    given = parser.parse_args()
    if not nvrtc() and not shutil.which("nvcc"):
        print("skipped: neither NVRTC (make cuda-check installs it where it can) nor nvcc is here to compile for "
              f"{ARCHITECTURE}")
        return 0
    print(f"compiling for {ARCHITECTURE}, and once for {OLDEST}, by {'NVRTC' if nvrtc() else 'nvcc'}")
    start, failures = time.perf_counter(), 0
    with ProcessPoolExecutor(given.jobs) as pool:
        results = sorted(pool.map(compiled, variants(given.all)), key=lambda result: result[0])
    for file, group in itertools.groupby(results, key=lambda result: result[0]):
        members = list(group)
        for _, macros, architecture, works, log in members:
            if not works:
                failures += 1
                print(f"FAILED: {file}.cu for {architecture} with {macros}\n{log}")
        logs = "\n".join(log for *_, architecture, _, log in members if architecture == ARCHITECTURE)
        registers, spilled = ([int(n) for n in pattern.findall(logs)] for pattern in (_REGISTERS, _SPILLED))
        print(f"{file}.cu: {len(members)} sets of macros, {len(registers)} kernels, at most "
              f"{max(registers, default=0)} registers and {max(spilled, default=0)} bytes spilled")
    print(f"{len(results) - failures} of {len(results)} compiled in {time.perf_counter() - start:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
