"""Trainers and demonstrations that a person runs: each file is a script, and `minigrad train` calls them."""

if __name__ != "minigrad.examples":
    raise ImportError("this folder is imported as minigrad.examples: install the project (pip install -e .)")
