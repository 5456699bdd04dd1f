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


def sections() -> dict[str, str]:
    """The code of every section of the README that has some: its blocks follow each other."""
    parts = re.split(r"^## (.*)\n", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    code = {
        title: re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    return {title: "\n".join(blocks) for title, blocks in code.items() if blocks}


@pytest.mark.parametrize("title", sections())
def test_the_examples_in_the_readme(title, capsys):
    # As a user runs it: optax's own Adam needs jax's standard promotion of dtypes.
    with jax.numpy_dtype_promotion("standard"):
        exec(compile(sections()[title], f"README.md, {title}", "exec"), {})
    assert capsys.readouterr().out


def test_a_guard_adds_at_most_five_lines():
    code = sections()["Your own training loop"]
    added = [line for line in code.splitlines() if re.search(r"# \d", line)]
    assert 1 <= len(added) <= 5
