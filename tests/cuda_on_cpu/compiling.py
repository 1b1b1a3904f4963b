"""CUDA sources compiled for the CPU: a translation of the little that no header can define, and a C++ compiler."""

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
INCLUDE = HERE / "include"
CACHE = HERE.parents[1] / "build" / "cuda_on_cpu"
# Hidden, for one library's inline variables would else serve all that are loaded after it.
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread", "-U_FORTIFY_SOURCE",
         "-ffp-contract=off", "-fno-strict-aliasing", "-w", f"-I{INCLUDE}")

#: PTX instructions, by what they begin with, in C++. The operands are %0, %1, … as in the source.
PTX = {
    "cp.async.cg.shared.global [%0], [%1], 16;": "memcpy(cuda_on_cpu::shared_pointer(%0), %1, 16);",
    "cp.async.ca.shared.global [%0], [%1], 8;": "memcpy(cuda_on_cpu::shared_pointer(%0), %1, 8);",
    "cp.async.ca.shared.global [%0], [%1], 4;": "memcpy(cuda_on_cpu::shared_pointer(%0), %1, 4);",
    "cp.async.commit_group;": ";",
    "cp.async.wait_all;": ";",
    "barrier.cluster.arrive.release.aligned;": "cuda_on_cpu::cluster_arrive();",
    "barrier.cluster.wait.acquire.aligned;": "cuda_on_cpu::cluster_wait();",
    "mapa.shared::cluster.u32 %0, %1, %2;": "%0 = cuda_on_cpu::mapped(%1, %2);",
    "ld.shared::cluster.f64 %0, [%1];": "%0 = *(const double *)cuda_on_cpu::shared_pointer(%1);",
    "ld.shared::cluster.f32 %0, [%1];": "%0 = *(const float *)cuda_on_cpu::shared_pointer(%1);",
}

_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void(?P<attributes>[^{;"]*?)\b(?P<name>\w+)\s*'
                     r"\((?P<parameters>[^(){};]*)\)\s*\{")
_DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\(\d+\)\s+)?(?P<type>[\w ]+?)\s+(?P<name>\w+)\[\];")
_ASM = re.compile(r'asm\s+volatile\s*\(\s*(?P<text>(?:"[^"]*"\s*)+)(?P<operands>.*?)\);')
_OPERAND = re.compile(r'"=?[rldf]"\s*\(((?:[^()]|\([^()]*\))*)\)')


def compiler():
    """The C++ compiler of this machine, or None."""
    return next((found for found in map(shutil.which, ("g++", "clang++")) if found), None)


def translated(source):
    """The source with what no macro can define in words of the header: launchers, dynamic shared memory, PTX."""
    source = _KERNEL.sub(_launcher, source)
    source = _DYNAMIC.sub(r"\g<type> *const \g<name> = (\g<type> *)cuda_on_cpu::dynamic_shared;", source)
    return f'#include "cuda_on_cpu.h"\n#line 1\n{_ASM.sub(_instructions, source)}'


def _launcher(found):
    attributes, name, parameters = found["attributes"], found["name"], found["parameters"]
    return (f'extern "C" void {name}({parameters}); extern "C" __attribute__((visibility("default"))) '
            f"const char *LAUNCHER({name})(cuda_on_cpu::Launch *l) "
            f"{{ return cuda_on_cpu::launch(l, {name}, cuda_on_cpu::Attributes() {attributes}); }} "
            f'extern "C" void {name}({parameters}) {{')


def _instructions(found):
    operands = _OPERAND.findall(found["operands"])
    result = []
    for line in "".join(re.findall(r'"([^"]*)"', found["text"])).split("\\n"):
        if line.strip() not in PTX:
            raise NotImplementedError(f"PTX that PTX in {Path(__file__).name} does not have: {line!r}")
        result.append(re.sub(r"%(\d)", lambda k: f"({operands[int(k[1])]})", PTX[line.strip()]))
    return "{ " + " ".join(result) + " }"


@functools.cache
def library(source, macros):
    """The source compiled with these macros (a tuple of -DNAME=VALUE), loaded. Compiled once on this machine."""
    text = translated(source)
    headers = "".join(path.read_text(encoding="utf-8") for path in sorted(INCLUDE.iterdir()))
    key = hashlib.sha256("\0".join((text, headers, *macros, *FLAGS)).encode()).hexdigest()[:24]
    made = CACHE / f"{key}.so"
    if not made.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = CACHE / f"{key}.{os.getpid()}"
        done = subprocess.run((compiler(), *FLAGS, *macros, "-x", "c++", "-", "-o", partial), input=text, text=True,
                              capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(macros)}\n{done.stderr}")
        partial.replace(made)
    return ctypes.CDLL(str(made))


class Argument(ctypes.Structure):
    """One argument: where its value is, what it is, and whether it is an array."""

    _fields_ = (("value", ctypes.c_void_p), ("kind", ctypes.c_int), ("size", ctypes.c_int),
                ("is_pointer", ctypes.c_int))


class Launch(ctypes.Structure):
    """A launch, as the header has it."""

    _fields_ = (("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3), ("shared", ctypes.c_uint),
                ("reversed", ctypes.c_uint), ("count", ctypes.c_int), ("arguments", ctypes.POINTER(Argument)),
                ("kernel", ctypes.c_void_p), ("call", ctypes.c_void_p))
