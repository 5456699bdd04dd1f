"""Newton's method in the eigenbasis of the dense Hessian, for some 100 parameters at most.

One decomposition of the Hessian serves two ways to go. *Down in the loss*, as saddle-free Newton
(Dauphin et al., NeurIPS 2014): V (|λ| + μ)⁻¹ Vᵀg, which leaves saddles. *Down in the gradient*, as
Levenberg and Marquardt would minimise |g|²: V λ (λ² + μ²)⁻¹ Vᵀg, which goes to the nearest critical
point of any kind, saddles and degenerate ones among them. The damping μ is searched anew at every
step, so that there is none to tune: the step is the best of a grid, and a step that does not
improve on where it starts is not taken.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from phenodl.protocol import Hyper, LossFn, Method, Objective, Params, StepInfo

_DAMPINGS = 10.0 ** np.arange(-10, 3)  # relative to the largest |λ|
_CLOSE = 1e-6  # norm of the gradient below which rounding hides the descent of the loss


def critical_point() -> Method:
    """Newton steps to a critical point: down in the loss at first, then down in the gradient.

    The hyper-parameter ``descent_steps`` says how many steps go down in the loss. Without an end to
    them (infinity) the method comes to minima, for it goes down in the gradient only where that is
    nearly zero; after a few steps it is caught by saddles too.

    Returns:
        A method whose state counts the steps.

    Example:
        >>> def saddle(x):
        ...     return x[0] ** 2 - x[1] ** 2 + x[1] ** 4
        >>> x = jnp.array([1.0, 0.1])
        >>> objective = Objective(saddle, saddle(x), jax.grad(saddle)(x))
        >>> method = critical_point()
        >>> after, _, _ = method.step(objective, x, jnp.array(0), {"descent_steps": jnp.array(0.0)})
        >>> bool(jnp.abs(after).max() < 0.02)
        True
    """

    def init(params: Params, hyper: Hyper) -> Int[Array, ""]:
        del params, hyper
        return jnp.zeros((), jnp.int32)

    def step(objective: Objective, params: Params, state: Int[Array, ""], hyper: Hyper):
        descend = state.astype(objective.loss.dtype) < hyper["descent_steps"]
        update = newton_step(objective.function, params, descend)
        moved = jax.tree.map(jnp.add, params, update)
        return moved, state + 1, StepInfo(update, jnp.ones_like(objective.loss))

    return Method(init, step)


def newton_step(loss: LossFn, params: Params, descend: Array | bool = False) -> Params:
    """The best Newton step over a grid of dampings.

    Args:
        loss: maps parameters to a scalar.
        params: where the step starts.
        descend: whether to go down in the loss, where its gradient is not nearly zero, or down in
            the gradient.

    Returns:
        The step, a pytree like ``params``; zero where no damping improves on the start.

    Example:
        >>> step = newton_step(lambda x: jnp.sum((x - 1) ** 2), jnp.array([3.0, 3.0]))
        >>> step.round(5).tolist()
        [-2.0, -2.0]
    """
    start, unravel = ravel_pytree(params)

    def value(flat: Float[Array, " n"]) -> Float[Array, ""]:
        return loss(unravel(flat))

    gradient = jax.grad(value)
    here = gradient(start)
    eigenvalues, vectors = jnp.linalg.eigh(jax.jacfwd(gradient)(start))
    size = jnp.linalg.norm(here)
    descend = descend & (size > _CLOSE)

    magnitude = jnp.abs(eigenvalues)
    damping = jnp.asarray(_DAMPINGS, start.dtype)[:, None] * magnitude.max()
    damping = jnp.maximum(damping, jnp.finfo(start.dtype).tiny)
    downhill = 1 / (magnitude[None] + damping)
    to_zero = eigenvalues[None] / (magnitude[None] ** 2 + damping**2)
    steps = -(jnp.where(descend, downhill, to_zero) * (here @ vectors)[None]) @ vectors.T

    def merit(flat: Float[Array, " n"]) -> Float[Array, ""]:
        return jnp.where(descend, value(flat), jnp.linalg.norm(gradient(flat)))

    merits = jax.vmap(lambda step: merit(start + step))(steps)
    merits = jnp.where(jnp.isfinite(merits), merits, jnp.inf)
    best = jnp.argmin(merits)
    better = merits[best] < jnp.where(descend, value(start), size)
    return unravel(jnp.where(better, steps[best], jnp.zeros_like(start)))
