"""Curvature monitoring for any optax training loop, without the engine."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from phenodl.curvature.lanczos import cold_start
from phenodl.curvature.products import linearize, require_scalar
from phenodl.optim import adam
from phenodl.optim.adam import LearningRate, Scalar
from phenodl.protocol import Params
from phenodl.spikes import curvatures
from phenodl.spikes.snapshots import snapshot, unmasked


class Report(NamedTuple):
    """How close to instability a step of Adam was; definitions in ``phenodl.spikes.curvatures``.

    Attributes:
        lambda_grad: curvature of the plain Hessian along the gradient.
        curvature_a: of Adam's preconditioned Hessian along the gradient, the paper's predictor.
        curvature_b: the same of its symmetric form.
        curvature_c: along the update.
        lambda_max: the largest eigenvalue of the preconditioned Hessian; NaN without products.
        residual: some eigenvalue lies within this distance of ``lambda_max``.
        alignment: |cos| of gradient and eigenvector, which nears 1 as an instability grows; NaN
            without products.
        threshold: what the preconditioned curvatures must stay below.
        vector: the eigenvector, a warm start for the next step; leading axis of length 1.
    """

    lambda_grad: Float[Array, ""]
    curvature_a: Float[Array, ""]
    curvature_b: Float[Array, ""]
    curvature_c: Float[Array, ""]
    lambda_max: Float[Array, ""]
    residual: Float[Array, ""]
    alignment: Float[Array, ""]
    threshold: Float[Array, ""]
    vector: Params

    @property
    def ratio(self) -> Float[Array, ""]:
        """``curvature_a`` in units of the threshold: a loss spike is near once it passes 1."""
        return self.curvature_a / self.threshold


def monitor(
    loss: Callable[[Params, Any], Float[Array, ""]],
    params: Params,
    opt_state: PyTree,
    batch: Any,
    *,
    learning_rate: LearningRate | None = None,
    b1: Scalar | None = None,
    b2: Scalar | None = None,
    eps: Scalar | None = None,
    eps_root: Scalar | None = None,
    weight_decay: Scalar | None = None,
    products: int = 10,
    start: Params | None = None,
) -> Report:
    """The curvatures that decide the stability of one step of Adam or AdamW.

    Call it between ``update`` and ``apply_updates``, where the parameters are still those of the
    gradient and ``opt_state`` has absorbed it; it works inside ``jax.jit``. The gradient is taken
    again, which the compiler merges with the step's own if it can.

    A hyper-parameter that is not given is the one ``optax.inject_hyperparams`` gave Adam, if it
    did, and else optax's default (no weight decay).

    The state of an optimizer does not tell which of its kin it belongs to. ``optax.nadam`` turns
    unstable at 1 / (1 + 2 b1) of the threshold (an eigenvalue of its step on a quadratic of
    constant D leaves the unit circle at -1 there), and ``curvature_c`` looks along Adam's update
    all the same. ``optax.adamax``, ``lamb``, ``radam`` and ``yogi`` keep a state of Adam's form
    but make another v or another step of it: do not rely on their reports.

    Args:
        loss: ``loss(params, batch) -> scalar``, what the gradient was taken of.
        params: θ_t, *before* ``apply_updates``.
        opt_state: of any optax chain with one Adam in it, *after* ``update``.
        batch: the batch of this step.
        learning_rate: η, a number or the schedule that optax was given.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to sqrt(v̂).
        eps_root: added to v̂ inside the root.
        weight_decay: decoupled weight decay; it lowers the threshold.
        products: Hessian-vector products for the eigenvalue, each about two gradients; 0 leaves it
            out. Three suffice with a warm start, 8 to 20 are needed without.
        start: ``vector`` of an earlier report; None starts cold.

    Returns:
        The report, scalars of the parameters' dtype.

    Raises:
        ValueError: if the learning rate is neither given nor injected, if ``opt_state`` does not
            hold exactly one Adam or not that of ``params``, if the parameters are not all float32
            or all float64, if the loss is not one number or has no second derivative, or if
            ``products`` is negative.

    Example:
        >>> import jax, optax
        >>> loss = lambda params, batch: 0.5 * batch * (params**2).sum()
        >>> params, batch, tx = jnp.array([1.0, 2.0]), 3.0, optax.adam(0.1)
        >>> with jax.numpy_dtype_promotion("standard"):
        ...     updates, state = tx.update(jax.grad(loss)(params, batch), tx.init(params))
        >>> report = monitor(loss, params, state, batch, learning_rate=0.1, products=2)
        >>> print(report.lambda_grad, report.lambda_max.round(4), report.threshold)
        3.0 0.5263 20.0
    """
    if products < 0:
        raise ValueError(f"products must not be negative; it is {products}")
    settings = adam.settings_of(
        opt_state,
        learning_rate=learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        eps_root=eps_root,
        weight_decay=weight_decay,
    )

    _require_state_of(params, opt_state)
    require_scalar(loss, params, batch)

    def function(params: Params) -> Float[Array, ""]:
        return loss(params, batch)

    _, grads, hvp = linearize(function, params)
    now = snapshot(opt_state, settings, grads)
    quotients = curvatures.directional(function, params, now)
    start = cold_start(params) if start is None else start
    if products == 0:
        lambda_max, residual, alignment, vector = jnp.nan, jnp.nan, jnp.nan, start
    else:
        top = curvatures.eigenpair(hvp, now, "lambda_max_adam", start, products)
        lambda_max, residual, vector = top.values[0], top.residuals[0], top.vectors
        leading = jax.tree.map(lambda leaf: leaf[0], vector)
        alignment = curvatures.alignment(leading, now, "lambda_max_adam")
    return Report(
        **quotients,
        lambda_max=jnp.asarray(lambda_max, now.threshold.dtype),
        residual=jnp.asarray(residual, now.threshold.dtype),
        alignment=jnp.asarray(alignment, now.threshold.dtype),
        threshold=now.threshold,
        vector=vector,
    )


def _require_state_of(params: Params, opt_state: PyTree) -> None:
    try:
        unmasked(adam.adam_state(opt_state).nu, params)
    except ValueError as error:
        if "pytree" not in str(error):
            raise
        raise ValueError(
            "opt_state must be that of params; their trees differ. flax.nnx wraps every array of"
            " its state: flax.nnx.as_pure unwraps it"
        ) from None
