"""Curvatures along gradient and update from a few micro-batches of the batch, with their error.

g and D are those of the whole step; the Hessian alone is averaged over fewer examples. A quadratic
form is linear in the Hessian, so that its mean over micro-batches drawn at random is an unbiased
estimate, and their spread tells its error.

Every array of the batch needs the examples on its leading axis. Where they are on another one, as
the images of :mod:`phenodl.models.cnn` are on the last, the batch cannot be parted so.
"""

import functools
from collections.abc import Sequence

import jax
from jaxtyping import Array, Float, Key, PyTree

from phenodl.microbatch import BatchLoss, micro_batches
from phenodl.optim import adam
from phenodl.protocol import Params, Probe, View
from phenodl.spikes.curvatures import Quotient, directional
from phenodl.spikes.snapshots import Settings, refuse_blocks, snapshot


def subset_probe(
    loss: BatchLoss,
    which: Sequence[Quotient] = ("curvature_b",),
    *,
    parts: int = 8,
    used: int = 2,
    settings: Settings = adam.from_hyper,
    every: int = 1,
) -> Probe:
    """Records ``curvature_b_subset``, its standard error ``curvature_b_subset_error``, and so on.

    Each measurement draws ``used`` of the ``parts`` micro-batches without replacement and has their
    memory and about used / parts of the cost of the whole batch. The error is that of the draw:
    what the same quotient of the *whole* batch may differ by, given its g and D. (It says nothing
    of how the batch itself was drawn.) With s the standard deviation over the micro-batches it is
    s sqrt((1 - used / parts) / used), and a Student t with used - 1 degrees of freedom turns it
    into an interval.

    Args:
        loss: of the problem, ``loss(params, batch) -> scalar``: a mean over the examples, the
            leading axis of the batch.
        which: the curvatures wanted, see :mod:`phenodl.spikes.curvatures`.
        parts: number of equal micro-batches of consecutive examples; it must divide the batch.
        used: how many of them to look at, at least 2.
        settings: Adam's hyper-parameters from those of a run, as for ``gradient_probe``.
        every: measure at every so many steps.

    Raises:
        ValueError: if ``used`` is below 2 or above ``parts``; while training, if ``parts`` does not
            divide the batch.

    Example:
        >>> loss = lambda params, batch: (params * batch).mean()
        >>> subset_probe(loss, ["curvature_b", "curvature_c"], parts=16, used=4, every=5).every
        5
    """
    if not 2 <= used <= parts:
        raise ValueError(f"used must be from 2 to parts, {parts}, got {used}")

    def init(key: Key[Array, ""], params: Params) -> Array:
        del params
        return jax.random.bits(key)

    def measure(seed: Array, view: View) -> tuple[Array, dict[str, Array]]:
        refuse_blocks(view)
        now = snapshot(view.method_state, settings(view.hyper), view.objective.grads)
        micro = micro_batches(view.batch, parts)
        key = jax.random.fold_in(jax.random.key(seed), view.step)
        drawn = jax.random.choice(key, parts, (used,), replace=False)

        def curvatures(place: Array) -> dict[str, Array]:
            part = jax.tree.map(lambda leaf: leaf[place], micro)
            return directional(functools.partial(_on, loss, part), view.params, now, which)

        values = {}
        for name, sample in jax.lax.map(curvatures, drawn).items():
            values[f"{name}_subset"], values[f"{name}_subset_error"] = _mean(sample, parts)
        return seed, values

    return Probe(measure, init=init, every=every)


def _on(loss: BatchLoss, batch: PyTree, params: Params) -> Float[Array, ""]:
    return loss(params, batch)


def _mean(
    sample: Float[Array, " used"], population: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mean, and its standard error as an estimate of the mean of a finite population.

    Example:
        >>> import jax.numpy as jnp
        >>> [round(float(number), 4) for number in _mean(jnp.array([1.0, 3.0]), 8)]
        [2.0, 0.866]
    """
    used = len(sample)
    return sample.mean(), sample.std(ddof=1) * ((1 - used / population) / used) ** 0.5
