"""Eigenvalues of a preconditioned Hessian of which one factor belongs to an earlier step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from phenodl.curvature.lanczos import cold_start, lanczos
from phenodl.curvature.operators import preconditioned
from phenodl.curvature.products import linearize
from phenodl.optim import adam
from phenodl.protocol import Params, Probe, View
from phenodl.spikes import curvatures

NAMES = ("lambda_max_adam", "lambda_max", "lambda_diagonal_kept", "lambda_hessian_kept")
"""λ_max of f D_t H_t, of H_t, of f D_t0 H_t and of f D_t H_t0."""

VECTORS = 2  # the two largest eigenvalues are often close and cross: one would lose the lead


class Anchor(NamedTuple):
    """What the probe keeps.

    Attributes:
        params: θ_t0.
        diagonal: D_t0.
        vectors: the eigenvectors found last; leading axes NAMES, VECTORS.
    """

    params: Params
    diagonal: Params
    vectors: Params


def eigenvalues_probe(products: int, every: int) -> Probe:
    """Records the eigenvalues NAMES: as they are, and with one factor as it was at the step t0.

    In λ_max(f D_t0 H_t) only the landscape has changed since t0, in λ_max(f D_t H_t0) only the
    preconditioner has. The steps t0 of a run are ``batch["anchors"]``: at each of them the probe
    takes up D and θ anew. All four are searched at once, by one program over a leading axis.

    Args:
        products: Hessian-vector products per eigenvalue and measurement.
        every: measure at every so many steps; the anchors are among these steps.
    """

    def init(key: Key[Array, ""], params: Params) -> Anchor:
        del key
        start = cold_start(params, VECTORS)
        return Anchor(params, params, stack([start] * len(NAMES)))

    def measure(state: Anchor, view: View) -> tuple[Anchor, dict[str, Array]]:
        settings = adam.from_hyper(view.hyper)
        now = curvatures.snapshot(view.method_state, settings, view.objective.grads)
        here = (view.step == 0) | (view.batch["anchors"] == view.step).any()

        def taken(new: Params, old: Params) -> Params:
            return jax.tree.map(lambda a, b: jnp.where(here, a, b), new, old)

        params = taken(view.params, state.params)
        diagonal = taken(now.diagonal, state.diagonal)
        one = jax.tree.map(jnp.ones_like, diagonal)
        # Where an anchor is taken up, the kept operators are the present one.
        start = jax.tree.map(
            lambda v: jnp.where(here, jnp.stack([v[0], v[1], v[0], v[0]]), v), state.vectors
        )

        def top(
            params: Params, diagonal: Params, factor: Float[Array, ""], start: Params
        ) -> tuple[Float[Array, ""], Params]:
            _, _, hvp = linearize(view.objective.function, params)
            found = lanczos(preconditioned(hvp, diagonal, factor), start, products=products)
            return found.values[0], found.vectors

        values, vectors = jax.vmap(top)(
            stack([view.params, view.params, view.params, params]),
            stack([now.diagonal, one, diagonal, now.diagonal]),
            jnp.stack([now.factor, jnp.ones_like(now.factor), now.factor, now.factor]),
            start,
        )
        return Anchor(params, diagonal, vectors), dict(zip(NAMES, values, strict=True))

    return Probe(measure, init=init, every=every)


def stack(trees: list[Params]) -> Params:
    """Trees of the same shape as one, along a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
