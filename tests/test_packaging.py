"""What is installed: the library alone, whole and importable, and dependencies that are pinned."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_library_and_its_licence_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"phenodl"}
    modules = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("phenodl/**/*.py")}
    assert modules <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_can_be_imported_away_from_the_clone(wheel, tmp_path):
    program = (
        f"import sys; sys.path.insert(0, {str(wheel)!r});"
        "import phenodl, phenodl.training, phenodl.sweep, phenodl.curvature;"
        f"assert phenodl.__file__.startswith({str(wheel)!r}), phenodl.__file__"
    )
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_constraints_pin_every_dependency_to_a_version_that_fits():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines]
    assert not any(pin.url for pin in pins)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + [
        line for extra, lines in extras.items() if extra != "bench" for line in lines
    ]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        versions = [pin.specifier for pin in pins if canonicalize_name(pin.name) == name]
        assert versions, f"{name} is not in constraints.txt"
        for (version,) in versions:
            assert version.operator == "=="
            assert version.version in requirement.specifier
