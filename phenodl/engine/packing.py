"""Rows of runs in and out of the groups of blocks that the compiled program moves.

Where several processes train on one mesh, each of them fills the shards of its own devices and
takes the rows of its own runs out of them.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int, PyTree

from phenodl.engine.step import RUNNING, Program, TrainState
from phenodl.sweep import Runs


def plain(runs: Runs) -> Runs:
    """The runs as rows of numbers alone: no axes, raw keys."""
    rows = runs._replace(axes={}, id=runs.id.astype(np.int32), key=jax.random.key_data(runs.key))
    return jax.tree.map(np.asarray, rows)


def pack(program: Program, rows: Any) -> list[Any]:
    """From rows of runs to groups of blocks (devices, blocks, width, ...), padded with id -1."""
    devices, blocks, width = program.mesh.size, program.layout.blocks or 1, program.layout.width
    count = math.ceil(len(rows.id) / (devices * blocks * width))
    padding = count * devices * blocks * width - len(rows.id)

    def split(leaf: np.ndarray) -> np.ndarray:
        # Neighbouring blocks go to different devices: a few runs keep all of them busy.
        shape = (count, blocks, devices, width, *leaf.shape[1:])
        return leaf.reshape(shape).swapaxes(1, 2)

    def pad(leaf: np.ndarray) -> np.ndarray:
        return np.concatenate([leaf, np.repeat(leaf[:1], padding, axis=0)])

    padded = jax.tree.map(pad, rows)
    padded.id[len(rows.id) :] = -1
    groups = jax.tree.map(split, padded)
    return [
        place(
            jax.tree.map(lambda leaf, number=number: leaf[number], groups), program.mesh, "device"
        )
        for number in range(count)
    ]


def place(tree: PyTree, mesh: Mesh, *spec: str) -> PyTree:
    """Arrays that every process holds whole, as global ones; each process copies its own shards."""
    sharding = NamedSharding(mesh, P(*spec))
    if len(processes(mesh)) == 1:
        return jax.device_put(tree, sharding)

    def distribute(leaf: Any) -> Array:
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

    return jax.tree.map(distribute, tree)


def processes(mesh: Mesh) -> list[int]:
    """The processes whose devices are in the mesh."""
    return sorted({device.process_index for device in mesh.devices.flat})


def own_share(mesh: Mesh, rows: PyTree) -> PyTree:
    """The rows that this process keeps of what all processes of the mesh hold."""
    all_of_them = processes(mesh)
    own = slice(all_of_them.index(jax.process_index()), None, len(all_of_them))
    return jax.tree.map(lambda leaf: leaf[own], rows)


def total(mesh: Mesh, *counts: int) -> list[int]:
    """Counts of one process each, summed over the processes of the mesh."""
    if len(processes(mesh)) == 1:
        return list(counts)
    return multihost_utils.process_allgather(np.array(counts)).sum(axis=0).tolist()


def everywhere(groups: Sequence[PyTree]) -> list[PyTree]:
    """Groups of blocks with the shards of all processes, in the memory of each."""
    return [multihost_utils.process_allgather(group, tiled=True) for group in groups]


def unpack(groups: Sequence[PyTree]) -> PyTree:
    """From groups of blocks to rows, padding included: those on the devices of this process."""
    return jax.tree.map(lambda *leaves: _join([_rows(leaf) for leaf in leaves]), *groups)


def _rows(leaf: Array) -> np.ndarray:
    """The rows of one group in one array, on a CPU without a copy if there is one device."""
    blocks = _local(leaf).swapaxes(0, 1)
    return blocks.reshape(-1, *blocks.shape[3:])


def _local(leaf: Array) -> np.ndarray:
    if getattr(leaf, "is_fully_addressable", True):
        return np.asarray(leaf)
    shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start)
    return np.concatenate([shard.data for shard in shards])


def _join(rows: Sequence[np.ndarray]) -> np.ndarray:
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def select(rows: PyTree, indices: np.ndarray) -> PyTree:
    """These rows, in this order."""
    return jax.tree.map(lambda leaf: leaf[indices], rows)


def order(ids: Int[np.ndarray, " row"]) -> Int[np.ndarray, " run"]:
    """The places of the runs among rows, by id and without the padding."""
    order = np.argsort(ids, kind="stable")
    return order[ids[order] >= 0]


def gather(finished: Sequence[TrainState], groups: Sequence[TrainState]) -> TrainState:
    """The whole state of the runs that this process holds, in the order of their ids.

    It goes from array to array, so that a large model is never copied as a whole but once.
    """

    def join(*leaves: Any) -> np.ndarray:
        ended, running = leaves[: len(finished)], leaves[len(finished) :]
        return _join([*ended, *map(_rows, running)])

    states = [*finished, *groups]
    places = order(join(*(state.id for state in states)))
    return jax.tree.map(lambda *leaves: join(*leaves)[places], *states)


def split(state: TrainState) -> tuple[TrainState, TrainState]:
    """Finished and running runs."""
    running = state.status == RUNNING
    return select(state, np.flatnonzero(~running)), select(state, np.flatnonzero(running))
