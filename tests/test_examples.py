"""What the documentation shows runs as it stands."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import jax
import pytest

import experiments
import phenodl

ROOT = Path(phenodl.__file__).parents[1]


def modules() -> list[str]:
    packages = pkgutil.walk_packages(phenodl.__path__, "phenodl.")
    of_experiments = pkgutil.iter_modules(experiments.__path__, "experiments.")
    names = [module.name for module in (*packages, *of_experiments)]
    return sorted(name for name in names if not name.endswith("__main__"))


@pytest.mark.parametrize("name", modules())
def test_the_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(blocks())))
def test_the_examples_in_the_readme(number, capsys):
    # As a user runs it: optax's own Adam needs jax's standard promotion of dtypes.
    with jax.numpy_dtype_promotion("standard"):
        exec(compile(blocks()[number], f"README.md, block {number}", "exec"), {})
    assert capsys.readouterr().out


def test_the_monitor_adds_at_most_five_lines():
    (block,) = (block for block in blocks() if "phenodl.monitor(" in block)
    added = [line for line in block.splitlines() if re.search(r"# \d", line)]
    assert 1 <= len(added) <= 5
