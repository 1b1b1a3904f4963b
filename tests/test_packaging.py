"""pyproject.toml against the folders: under a mapping packages can't be discovered and are listed by hand."""

import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

import minigrad

ROOT = Path(__file__).resolve().parents[1]

# Behaves like an environment in which nothing is installed but what pyproject.toml names.
TRAINING_WITH_THE_CORE_ALONE = """
import sys
allowed = {*sys.stdlib_module_names, "minigrad", "numpy", "safetensors"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
from minigrad import cli
sys.exit(cli.main(["train", "mlp", "--tiny"]))
"""
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = SETTINGS["tool"]["setuptools"]


def packages_in_the_tree():
    names = set()
    for name, folder in SETUPTOOLS["package-dir"].items():
        for init in (ROOT / folder).rglob("__init__.py"):
            names.add(".".join((name, *init.parent.relative_to(ROOT / folder).parts)))
    return names


def test_every_package_is_listed_and_no_other():
    assert sorted(SETUPTOOLS["packages"]) == sorted(packages_in_the_tree())


def test_every_folder_with_modules_is_a_package():
    for folder in SETUPTOOLS["package-dir"].values():
        for module in (ROOT / folder).rglob("*.py"):
            assert (module.parent / "__init__.py").is_file(), f"no __init__.py beside {module}"


def test_the_package_and_its_metadata_have_one_version():
    assert SETTINGS["project"]["version"] == minigrad.__version__


def test_package_data_exists():
    for package, patterns in SETUPTOOLS["package-data"].items():
        for pattern in patterns:
            folder = ROOT / package.replace(".", "/")
            assert list(folder.glob(pattern)), f"nothing in {folder} matches {pattern}"


def test_all_takes_every_extra_but_cuda():
    extras = SETTINGS["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    taken = set(everything.partition("[")[2].rstrip("]").split(","))
    assert taken == {name for name in extras if name != "all" and not name.startswith("cuda")}


def test_the_core_dependencies_alone_train(tmp_path):
    assert SETTINGS["project"]["dependencies"] == ["numpy>=2", "safetensors"]
    done = subprocess.run([sys.executable, "-c", TRAINING_WITH_THE_CORE_ALONE], cwd=tmp_path, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "test images right" in done.stdout
