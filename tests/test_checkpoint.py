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


def expected(method=adam) -> training.TrainState:
    return training.abstract_state(sine_network(), method, RUNS, probes=PROBES)


def test_a_state_comes_back_whole_with_its_structure(tmp_path):
    state = first_state()
    with checkpoint.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest() is None
        for step in (10, 20, 30):
            checkpoints.save(step, state)
    with checkpoint.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest() == 30
        restored = checkpoints.restore(30, expected())
        checkpoints.restore(20, expected())
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert not (tmp_path / "checkpoints" / "10").exists(), "the last two are kept"


def test_a_state_of_another_program_is_refused_by_name(tmp_path):
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(10, first_state(gradient_descent))
        with pytest.raises(checkpoint.CheckpointError, match=r"\.method.*count is missing"):
            checkpoints.restore(10, expected(adam))


def test_a_damaged_checkpoint_is_named(tmp_path):
    state = first_state()
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(10, state)
        checkpoints.save(20, state)
    for path in (tmp_path / "20" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:3])
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [10, 20]
        with pytest.raises(checkpoint.CheckpointError, match=r"20: damaged"):
            checkpoints.restore(20, expected())
        restored = checkpoints.restore(10, expected())
    jax.tree.map(np.testing.assert_array_equal, restored, state)
