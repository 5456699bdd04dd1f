"""One sweep on several devices and processes: the bits of the single device, in chaos too."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import one_mesh
import pytest

from phenodl import training

SCRIPT = Path(one_mesh.__file__)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train_together(folder: Path, processes: int, devices: int) -> None:
    words = [sys.executable, str(SCRIPT), str(folder), str(processes)]
    port = str(free_port())
    started = [
        subprocess.Popen(
            [*words, str(process), str(devices), port],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(processes)
    ]
    for each in started:
        _, complaints = each.communicate(timeout=240)
        assert each.returncode == 0, complaints


def rows_by_step(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """The rows of all processes, in the order of the runs."""
    joined = {}
    for step in sorted({path.name.partition("-")[0] for path in folder.glob("*.npz")}):
        pieces = [np.load(path) for path in folder.glob(f"{step}-*.npz")]
        rows = {name: np.concatenate([piece[name] for piece in pieces]) for name in one_mesh.ROWS}
        assert all(piece["runs"] == rows["id"].size for piece in pieces)
        for order, names in (("id", ["id", "loss"]), ("state_id", ["state_id", "params"])):
            places = np.argsort(rows[order])
            rows |= {name: rows[name][places] for name in names}
        joined[step] = rows
    return joined


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("alone")
    one_mesh.write(folder, jax.local_devices()[:1])
    return rows_by_step(folder)


@pytest.mark.parametrize(("processes", "devices"), [(1, 8), (2, 2), (4, 1)])
def test_a_sweep_has_the_same_bits_on_any_mesh(tmp_path, alone, processes, devices):
    """Also after compaction, which sends runs from process to process."""
    train_together(tmp_path, processes, devices)
    together = rows_by_step(tmp_path)
    assert list(together) == list(alone)
    assert len(alone["000000"]["id"]) == 40
    assert len(alone["000060"]["id"]) == 20
    for step, rows in alone.items():
        assert np.isfinite(rows["loss"][-1, -1]) or step == "000000"
        for name, values in rows.items():
            np.testing.assert_array_equal(together[step][name], values, strict=True)


def test_half_of_the_processes_are_no_mesh(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(training, "processes", lambda mesh: [0, 1, 2])
    with pytest.raises(ValueError, match="devices must be those of this process, or of all"):
        one_mesh.write(Path(), jax.local_devices()[:1])
