"""A guarded and monitored training on a mesh of four devices, beside the same on one.

A program of its own, which prints what it found: the number of devices is fixed when JAX starts.
"""

import json

import jax
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from own_loops import bare_loss, batch, weights

from phenodl import guarded, monitor

STEPS = 20
SETTINGS = {"learning_rate": 0.3, "b2": 0.9}
MESH = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))
EVERYWHERE = jax.tree.map(lambda leaf: P(), weights(0))
OVER_HIDDEN_UNITS = {
    "first": {"kernel": P(None, "model"), "bias": P("model")},
    "last": {"kernel": P("model"), "bias": P()},
}


def place(leaf, spec):
    return jax.device_put(leaf, NamedSharding(MESH, spec))


def train(params, batch, scalars=lambda leaf: leaf):
    """Losses, signals and curvatures of the steps, the last state, and the compilations."""
    optimizer = guarded(optax.adam(**SETTINGS), **SETTINGS)

    @jax.jit
    def train_step(params, state, batch):
        value, grads = jax.value_and_grad(bare_loss)(params, batch)
        updates, state = optimizer.update(grads, state, params)
        report = monitor(bare_loss, params, state, batch, **SETTINGS, products=0)
        seen = value, state.signal, report.ratio
        return optax.apply_updates(params, updates), state, seen

    # init lays moments where the parameters lie, but counters on one device, as optax does.
    state = jax.tree.map(lambda leaf: leaf if leaf.ndim else scalars(leaf), optimizer.init(params))
    history = []
    for _ in range(STEPS):
        # Few cores: steps in flight at once would wait for each other's collectives.
        params, state, seen = jax.block_until_ready(train_step(params, state, batch))
        history.append(seen)
    return np.array(history).T, state, train_step._cache_size()


def lies_as(tree, specs):
    same = lambda leaf, spec: leaf.sharding.is_equivalent_to(NamedSharding(MESH, spec), leaf.ndim)
    return all(jax.tree.leaves(jax.tree.map(same, tree, specs)))


def on_the_mesh(specs):
    params = jax.tree.map(place, weights(0), specs)
    samples = jax.tree.map(lambda leaf: place(leaf, P("data")), batch())
    history, state, compilations = train(params, samples, lambda leaf: place(leaf, P()))
    moments = state.optimizer[0]
    trees = {"mu": moments.mu, "nu": moments.nu, **state.last._asdict()}
    return {
        "history": history.tolist(),
        "corrected": int(state.corrected),
        "compilations": compilations,
        "elsewhere": [name for name, tree in trees.items() if not lies_as(tree, specs)],
    }


if __name__ == "__main__":
    history, state, _ = train(weights(0), batch())
    found = {"alone": {"history": history.tolist(), "corrected": int(state.corrected)}}
    found["data"] = on_the_mesh(EVERYWHERE)
    found["model"] = on_the_mesh(OVER_HIDDEN_UNITS)
    print(json.dumps(found))
