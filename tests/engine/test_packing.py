import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl import probes, sweep, training
from phenodl.engine.packing import pack
from phenodl.optim import adam
from phenodl.protocol import Layout, Problem

ARRAYS, SIZE = 16, 2**16


def training_of_arrays(seeds, **how):
    """A training of many arrays, one step per chunk."""

    def init(key, data, hyper):
        return list(jax.random.normal(key, (ARRAYS, SIZE)))

    def loss(params, batch):
        return sum((leaf**2).mean() for leaf in params)

    method = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())
    runs = sweep.product(key=jax.random.key(0), seed=range(seeds), learning_rate=0.01)
    problem = Problem(init, loss)
    return training.train(problem, method, runs, steps=2, chunk=1, **how)


@pytest.mark.parametrize("seeds", [1, 3])
def test_gathering_copies_a_large_state_once(seeds):
    chunks = training_of_arrays(
        seeds, layout=Layout(width=1, blocks=1), devices=jax.local_devices()[:1]
    )
    chunk = next(chunks)
    tracemalloc.start()
    try:
        state = chunk.state()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert whole > 3 * seeds * ARRAYS * SIZE * 4
    largest = seeds * SIZE * 4
    assert peak < whole + 2 * largest


def test_what_was_gathered_does_not_change_as_training_goes_on():
    chunks = training_of_arrays(2, layout=Layout(width=1))
    first = next(chunks).state()
    before = jax.tree.map(np.copy, first)
    next(chunks)
    jax.tree.map(np.testing.assert_array_equal, first, before)
    assert first.id.tolist() == [0, 1]
    first.params[0][:] = jnp.nan  # one's own to change


@pytest.mark.parametrize("runs", [1, 4, 9, 16, 23, 32])
def test_blocks_go_round_the_devices(runs, monkeypatch):
    """However many runs are left: no device has two blocks more than another with work."""
    problem = Problem(init=lambda *_: jnp.zeros(()), loss=lambda theta, batch: theta**2)
    swept = sweep.product(key=jax.random.key(0), seed=range(runs), learning_rate=0.1)
    seen = []

    def see(program, rows):
        seen.append(pack(program, rows))
        return seen[-1]

    monkeypatch.setattr(training, "pack", see)
    method = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())
    layout = Layout(width=2, blocks=4)
    for _ in training.train(problem, method, swept, steps=1, probes=[probes.loss()], layout=layout):
        pass
    (groups,) = seen
    held = np.concatenate([np.asarray(group.id) >= 0 for group in groups], axis=1)
    assert held.shape[0] == len(jax.local_devices()) == 2
    assert held.sum() == runs
    blocks = held.any(axis=2).sum(axis=1)
    assert np.ptp(blocks) <= 1
