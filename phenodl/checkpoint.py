"""Checkpoints of the whole training state; the one module that knows orbax.

A state is stored as named arrays, one per leaf, the name being its path in the pytree. So a stored
state is compared by name with the one that a program expects, and what differs can be said.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from phenodl.training import TrainState


class CheckpointError(ValueError):
    """A checkpoint that is damaged or does not fit the program; the message says which and why."""


class Checkpoints:
    """The checkpoints of one training in a directory; the last two are kept.

    Use as a context manager: leaving it waits for what is still being written.
    """

    def __init__(self, directory: Path):
        policies: Any = ocp.training.preservation_policies
        self._directory = directory
        self._checkpointer = ocp.training.Checkpointer(
            str(directory.absolute()),
            preservation_policy=policies.LatestN(2),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self._checkpointer.close()

    def save(self, step: int, state: TrainState) -> None:
        """Stores the state under the step that comes next."""
        self._checkpointer.save(step, _named(state), overwrite=True)

    def latest(self) -> int | None:
        """The step of the last whole checkpoint, or None."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    def steps(self) -> list[int]:
        """The steps of all checkpoints, the newest last."""
        return sorted(stored.step for stored in self._checkpointer.checkpoints)

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state stored under a step.

        Args:
            step: as given to :meth:`save`.
            like: shapes and dtypes, from :func:`phenodl.training.abstract_state`.

        Raises:
            CheckpointError: the checkpoint cannot be read, or the stored arrays differ from these
                in name, shape or dtype.
        """
        try:
            stored = self._checkpointer.load(step)
        except Exception as error:  # what orbax raises depends on which of its files is damaged
            reason = type(error).__name__
            raise CheckpointError(f"{self._directory / str(step)}: damaged ({reason})") from error
        expected = _named(like)
        for name in sorted(stored.keys() | expected.keys()):
            found, wanted = (_describe(leaves.get(name)) for leaves in (stored, expected))
            if found != wanted:
                raise CheckpointError(
                    f"{self._directory / str(step)}: {name} is {found}, this code expects {wanted}"
                )
        leaves, structure = jax.tree.flatten_with_path(like)
        arrays = [
            stored.get(jax.tree_util.keystr(path), np.empty(leaf.shape, leaf.dtype))
            for path, leaf in leaves
        ]
        return jax.tree.unflatten(structure, arrays)


def _named(state: TrainState) -> dict[str, np.ndarray]:
    """Leaves by path; orbax stores no empty arrays, and they need none."""
    leaves, _ = jax.tree.flatten_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if leaf.size}


def _describe(leaf: np.ndarray | None) -> str:
    return "missing" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"
