"""How the C library's allocator is set, and what is given back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import minigrad
from minigrad import memory

GLIBC = memory._glibc() is not None
only_glibc = pytest.mark.skipif(not GLIBC, reason="another C library")

#: Page faults of ten large arrays, one after the other, after a first one; without kernels or imports between them.
FAULTS = """
import resource
import numpy as np
import minigrad
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(8_000_000)
before = faults()
for _ in range(10):
    np.ones(8_000_000)
print(faults() - before)
"""


def faults(**variables):
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("MALLOC_", "MINIGRAD_MALLOC", "GLIBC_TUNABLES"))}
    done = subprocess.run([sys.executable, "-c", FAULTS], env={**environment, **variables}, capture_output=True,
                          text=True, check=True)
    return int(done.stdout)


@only_glibc
def test_freed_memory_is_used_again():
    """An array of 64 MB has 15,625 pages of 4 KiB (or 31 of 2 MiB, if the system joins them)."""
    kept = faults()
    assert kept < 100
    for variables in ({"MINIGRAD_MALLOC": "system"}, {"MALLOC_TOP_PAD_": "131072"}):
        assert faults(**variables) > kept + 200


@pytest.mark.parametrize(("name", "value"), [("MINIGRAD_MALLOC", "system"), ("MALLOC_MMAP_THRESHOLD_", "100000")])
def test_the_environment_has_precedence(name, value, monkeypatch):
    monkeypatch.setattr(memory, "_glibc", lambda: pytest.fail("the allocator was asked for"))
    monkeypatch.setenv(name, value)
    assert memory.keep_freed_memory() is False


def test_without_glibc_nothing_is_done(monkeypatch):
    monkeypatch.delenv("MINIGRAD_MALLOC", raising=False)
    for answer in ("musl 1.2", None, ValueError, AttributeError):
        def confstr(name, answer=answer):
            if isinstance(answer, type):
                raise answer
            return answer

        monkeypatch.setattr(os, "confstr", confstr, raising=False)
        assert memory.keep_freed_memory() is False
        assert minigrad.release_memory() is False


@only_glibc
def test_release_memory_gives_back_what_is_free():
    code = """
import numpy as np
import minigrad
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])
x = np.ones(8_000_000)
held = resident()
del x
kept = resident()
released = minigrad.release_memory()
print(held - kept, kept - resident(), released)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "MINIGRAD_MALLOC"))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    freed, released, said = done.stdout.split()
    page = os.sysconf("SC_PAGE_SIZE")
    assert int(freed) * page < 1e6
    assert int(released) * page > 50e6
    assert said == "True"
    assert isinstance(minigrad.release_memory(), bool)
