"""Every example in a docstring, run in the installed package.

`pytest --doctest-modules layers` would import a second copy of each module, under another name.
"""

import doctest
import importlib
import pkgutil

import pytest

# An editable install finds the mapped folders by name only, so each is walked for itself.
ROOTS = ("minigrad", "minigrad.layers", "minigrad.optim", "minigrad.examples")
RUN_WHEN_IMPORTED = {"minigrad.__main__"}
OPTIONAL = {"array_api_compat", "cupy", "graphviz", "llvmlite", "matplotlib", "numba", "scipy", "tensorboardX",
            "threadpoolctl"}


def module_names():
    names = set(ROOTS)
    for root in ROOTS:
        path = importlib.import_module(root).__path__
        names |= {info.name for info in pkgutil.walk_packages(path, prefix=f"{root}.")}
    return sorted(names - RUN_WHEN_IMPORTED)


@pytest.mark.parametrize("name", module_names())
def test_examples_in_docstrings(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        pytest.skip(f"{name} needs {error.name}")
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert failed == 0, f"{failed} examples of {name} fail; see the output above"


def test_the_walk_reaches_every_folder():
    names = module_names()
    assert "minigrad.data.loader" in names
    for folder in ROOTS[1:]:
        assert any(name.startswith(f"{folder}.") for name in names)
