"""A sweep: the runs of a batch, as the product of named axes.

An axis is a seed, a hyper-parameter or a problem instance. A run's random numbers depend on its own
seed alone, never on which other runs share the batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

RESERVED = ("run", "step", "status", "stopped_at")
"""Names that no axis and no measurement can have, since results use them."""


class Runs(NamedTuple):
    """The runs of a sweep, flattened in the product order of its axes.

    Attributes:
        axes: name to coordinate values, in the order of the dimensions of the results.
        id: place of each run in the product of all axes; keeps its meaning in a subset.
        key: one PRNG key per run.
        hyper: hyper-parameters by name, one value per run.
        data: what an instance axis adds to the problem's data, runs along the leading axis.
    """

    axes: dict[str, np.ndarray]
    id: Int[Array | np.ndarray, " run"]
    key: Key[Array, " run"]
    hyper: dict[str, Float[Array, " run"]]
    data: dict[str, PyTree]

    def take(self, indices: Sequence[int] | Int[np.ndarray, " some"]) -> "Runs":
        """The runs at these places, in this order."""
        rows = np.asarray(indices)
        return self._replace(
            id=self.id[rows],
            key=self.key[rows],
            hyper=jax.tree.map(lambda leaf: leaf[rows], self.hyper),
            data=jax.tree.map(lambda leaf: leaf[rows], self.data),
        )


def product(
    *,
    key: Key[Array, ""],
    fold_in: tuple[str, ...] = ("seed",),
    **axes: Any,
) -> Runs:
    """The product of the given axes, the last one varying fastest.

    Args:
        key: the sweep's own key.
        fold_in: the axes that enter a run's key: the seed with its value, others with the place
            on the axis. With the default, runs that differ in a hyper-parameter alone share their
            random numbers (and so their initial parameters).
        **axes: by kind of value:

            - ``seed``: integers in [0, 2**32), one or a sequence;
            - a mapping: an axis of problem instances, each entry with the instances along its
              leading axis; the entries join the problem's data, the coordinate is the index;
            - a sequence of numbers: a hyper-parameter that varies;
            - one number: a hyper-parameter that all runs share; it adds no dimension.

    Raises:
        ValueError: an axis is empty, not one-dimensional, has a reserved name, or its instances
            differ in number; a seed is out of range; a name in ``fold_in`` is not an axis
            (``"seed"`` may be missing); the key is not a typed one.

    Example:
        >>> runs = product(key=jax.random.key(0), seed=range(3), learning_rate=[0.1, 0.2], b2=0.99)
        >>> {name: len(values) for name, values in runs.axes.items()}
        {'seed': 3, 'learning_rate': 2}
        >>> runs.hyper["learning_rate"].shape, runs.hyper["b2"].shape
        ((6,), (6,))
    """
    if not jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key):
        raise ValueError("key must be a typed key, jax.random.key(0)")
    for name in axes:
        if name in RESERVED or name.startswith("step_"):
            raise ValueError(f"axis {name!r}: results use this name for themselves")
    if "seed" in axes:
        axes["seed"] = np.atleast_1d(axes["seed"])
    shared = {name: value for name, value in axes.items() if _is_number(value)}
    varying = {name: value for name, value in axes.items() if name not in shared}
    coordinates = {name: _coordinates(name, value) for name, value in varying.items()}
    unknown = [name for name in fold_in if name != "seed" and name not in coordinates]
    if unknown:
        raise ValueError(f"fold_in names {unknown[0]!r}, which is not an axis of the sweep")

    lengths = [len(values) for values in coordinates.values()]
    size = int(np.prod(lengths, dtype=int))
    rows = dict(zip(coordinates, np.indices(lengths).reshape(len(lengths), size), strict=True))

    keys = jnp.broadcast_to(key, (size,))
    for name in fold_in:
        if name in coordinates:
            numbers = coordinates["seed"][rows["seed"]] if name == "seed" else rows[name]
            keys = jax.vmap(jax.random.fold_in)(keys, numbers.astype(np.uint32))

    dtype = jnp.zeros(()).dtype
    hyper = {name: np.full(size, value, dtype) for name, value in shared.items()}
    data = {}
    for name, value in varying.items():
        if isinstance(value, Mapping):
            data |= {entry: _rows(leaves, rows[name]) for entry, leaves in value.items()}
        elif name != "seed":
            hyper[name] = coordinates[name][rows[name]].astype(dtype)
    return Runs(coordinates, np.arange(size), keys, jax.tree.map(jnp.asarray, hyper), data)


def _is_number(value: Any) -> bool:
    return not isinstance(value, Mapping) and np.ndim(value) == 0


def _rows(leaves: PyTree, rows: Int[np.ndarray, " run"]) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], leaves)


def _coordinates(name: str, value: Any) -> np.ndarray:
    if isinstance(value, Mapping):
        sizes = {len(leaf) for leaf in jax.tree.leaves(value)}
        if len(sizes) != 1:
            raise ValueError(
                f"axis {name!r}: its entries hold {sorted(sizes)} instances, not one number"
            )
        coordinates = np.arange(sizes.pop())
    else:
        coordinates = np.asarray(value)
    if coordinates.ndim != 1 or coordinates.size == 0:
        raise ValueError(
            f"axis {name!r} must be a non-empty sequence, got shape {coordinates.shape}"
        )
    if name == "seed" and not (
        np.issubdtype(coordinates.dtype, np.integer)
        and (coordinates >= 0).all()
        and (coordinates < 2**32).all()
    ):
        raise ValueError("axis 'seed' must hold integers in [0, 2**32)")
    return coordinates
