import pickle
import shutil

import jax
import numpy as np
import pytest
from problems import adam, gradient_descent, sine_network

from phenodl import checkpoint, probes, sweep, training

PROBES = [probes.loss(), probes.grad_norm(2)]
RUNS = sweep.product(key=jax.random.key(1), seed=range(5), learning_rate=0.03, b2=0.99)


def first_state(method=adam) -> training.TrainState:
    chunks = training.train(sine_network(), method, RUNS, steps=30, chunk=10, probes=PROBES)
    return next(iter(chunks)).state()


@pytest.fixture(scope="module")
def state() -> training.TrainState:
    return first_state()


def expected(method=adam) -> training.TrainState:
    return training.abstract_state(sine_network(), method, RUNS, probes=PROBES)


def rows(state, chosen) -> training.TrainState:
    return jax.tree.map(lambda leaf: leaf[np.array(chosen, int)], state)


def assert_equal(restored, state) -> None:
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_a_state_comes_back_whole_with_its_structure(tmp_path, state):
    directory = tmp_path / "checkpoints"
    assert checkpoint.steps(directory) == []
    for step in (10, 20, 30):
        checkpoint.save(directory, step, state)
    assert checkpoint.steps(directory) == [20, 30], "the last two are kept"
    for step in (20, 30):
        assert_equal(checkpoint.restore(directory, step, expected()), state)


def test_rows_of_several_processes_are_put_in_order_without_padding(tmp_path, state):
    """What several processes store looks like this: rows in any order, and some with id -1."""
    scattered = rows(state, [4, 1, 0, 0, 3, 2, 2])
    scattered.id[[3, 5]] = -1
    checkpoint.save(tmp_path, 10, scattered)
    assert_equal(checkpoint.restore(tmp_path, 10, expected()), state)


@pytest.mark.parametrize("chosen", [[0, 1, 3, 4], [0, 1, 2, 2, 3]])
def test_every_run_must_be_there_once(tmp_path, state, chosen):
    checkpoint.save(tmp_path, 10, rows(state, chosen))
    with pytest.raises(checkpoint.DamagedError, match="10: holds 4 of 5 runs"):
        checkpoint.restore(tmp_path, 10, expected())


def test_a_state_of_another_program_is_refused_by_name(tmp_path, state):
    checkpoint.save(tmp_path, 10, first_state(gradient_descent))
    with pytest.raises(checkpoint.MisfitError, match=r"\.method.*count is missing"):
        checkpoint.restore(tmp_path, 10, expected(adam))
    checkpoint.save(tmp_path, 20, rows(state, [*range(5), *range(5)]))
    with pytest.raises(checkpoint.MisfitError, match="20: holds 10 runs, this code has 5"):
        checkpoint.restore(tmp_path, 20, expected(adam))


def test_a_damaged_checkpoint_is_named(tmp_path, state):
    checkpoint.save(tmp_path, 10, state)
    checkpoint.save(tmp_path, 20, state)
    for path in (tmp_path / "20" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:3])
    assert checkpoint.steps(tmp_path) == [10, 20]
    with pytest.raises(checkpoint.DamagedError, match=r"20: damaged"):
        checkpoint.restore(tmp_path, 20, expected())
    assert_equal(checkpoint.restore(tmp_path, 10, expected()), state)


def test_a_flipped_bit_is_found(tmp_path, state):
    """In every file, at random places."""
    checkpoint.save(tmp_path, 10, state)
    random = np.random.default_rng(0)
    paths = [path for path in sorted(tmp_path.rglob("*")) if path.is_file() and path.stat().st_size]
    for path in paths:
        whole = path.read_bytes()
        for place in random.integers(len(whole), size=3):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << random.integers(8)
            path.write_bytes(flipped)
            with pytest.raises(checkpoint.DamagedError, match="10: damaged"):
                checkpoint.restore(tmp_path, 10, expected())
        path.write_bytes(whole)
    assert_equal(checkpoint.restore(tmp_path, 10, expected()), state)


def test_what_lies_beyond_a_step_or_is_half_written_is_discarded(tmp_path, state):
    for step in (10, 20):
        checkpoint.save(tmp_path, step, state)
    shutil.copytree(tmp_path / "20", tmp_path / "30")
    shutil.copytree(tmp_path / "20", tmp_path / "40.orbax-checkpoint-tmp")
    assert checkpoint.steps(tmp_path) == [10, 20], "what has no checksums is no checkpoint"
    checkpoint.discard_after(tmp_path, 10)
    assert {path.name for path in tmp_path.iterdir()} == {"10", "10.sha256"}
    assert_equal(checkpoint.restore(tmp_path, 10, expected()), state)


def test_nothing_is_unpickled(tmp_path, state, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("unpickled")

    checkpoint.save(tmp_path, 10, state)
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert_equal(checkpoint.restore(tmp_path, 10, expected()), state)
