"""A disk that is full, as far as one process can tell."""

import contextlib

import pytest


@contextlib.contextmanager
def files_end_at(size):
    """No file of this process grows beyond ``size`` bytes within the block: "File too large".

    A block and not a fixture: pytest itself writes, to a log that may be longer, before fixtures are taken down.
    """
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
