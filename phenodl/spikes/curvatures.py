"""The curvatures that decide whether Adam is stable: Adam's state joined with the Hessian.

With D = 1/(sqrt(v̂) + eps), f = (1 - b1)/(1 + b1)/(1 - b1^t) and the preconditioned Hessian
Ĥ = f D H, steps shrink while the curvature they feel stays below 2/η (SPIKE, arXiv 2506.04805).
Everything is evaluated at θ_t with v after g_t was absorbed. Along one direction:

    lambda_grad    gᵀ H g / gᵀ g            the plain Hessian along the gradient
    curvature_a    gᵀ Ĥ g / gᵀ g            Ĥ along the gradient, as in the paper
    curvature_b    f gᵀ D H D g / gᵀ D g    the same for the symmetric f D^½ H D^½
    curvature_c    f uᵀ H u / uᵀ D⁻¹ u      along the update u = D m̂

and over all directions ``lambda_max`` of H and ``lambda_max_adam`` of Ĥ. A quotient may be
negative, and is NaN where its direction vanishes. Parameters that a mask keeps from Adam count as
frozen: they have no direction and no curvature.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PyTree

from phenodl.curvature import operators, products
from phenodl.curvature.lanczos import Eigenpairs, cold_start, lanczos
from phenodl.optim import adam
from phenodl.optim.adam import Adam
from phenodl.protocol import Hyper, LossFn, Params, Probe, View

Quotient = Literal["lambda_grad", "curvature_a", "curvature_b", "curvature_c"]
Eigenvalue = Literal["lambda_max", "lambda_max_adam"]
Settings = Callable[[Hyper], Adam]


class Snapshot(NamedTuple):
    """What the curvatures need to know of Adam at one step.

    Attributes:
        grads: g_t, zero on frozen parameters; like all trees here, shaped like the parameters.
        moment: the bias-corrected first moment m̂.
        diagonal: the preconditioner D, zero on frozen parameters.
        factor: f, the momentum factor.
        threshold: 2/η_t minus the weight decay, the bound on the preconditioned curvature.
    """

    grads: Params
    moment: Params
    diagonal: Params
    factor: Float[Array, ""]
    threshold: Float[Array, ""]


def snapshot(opt_state: PyTree, settings: Adam, grads: Params) -> Snapshot:
    """Reads Adam's state in the terms of the theory.

    Args:
        opt_state: state of an optax chain after it absorbed ``grads``.
        settings: the hyper-parameters the chain was built with.
        grads: the gradient at the current parameters.

    Raises:
        ValueError: if ``opt_state`` does not hold exactly one Adam state, or ``grads`` are not all
            float32 or all float64.

    Example:
        >>> tx, grads = optax.adam(0.1), jnp.array([3.0, -4.0])
        >>> with jax.numpy_dtype_promotion("standard"):
        ...     _, state = tx.update(grads, tx.init(grads))
        >>> now = snapshot(state, Adam(0.1), grads)
        >>> print(now.diagonal.round(3), now.factor.round(3), now.threshold)
        [0.333 0.25 ] 0.526 20.0
    """

    def full(tree: PyTree) -> Params:
        def fill(node: PyTree, like: Params) -> Params:
            return jax.tree.map(jnp.zeros_like, like) if adam.is_masked(node) else node

        return jax.tree.map(fill, tree, grads, is_leaf=adam.is_masked)

    dtype = _dtype_of(grads)
    count = jnp.asarray(adam.adam_state(opt_state).count)
    diagonal = full(
        adam.preconditioner(opt_state, b2=settings.b2, eps=settings.eps, eps_root=settings.eps_root)
    )
    return Snapshot(
        grads=jax.tree.map(lambda d, g: jnp.where(d > 0, g, 0), diagonal, grads),
        moment=full(adam.first_moment(opt_state, b1=settings.b1)),
        diagonal=diagonal,
        factor=adam.momentum_factor(count, b1=settings.b1).astype(dtype),
        threshold=adam.stability_threshold(
            settings.learning_rate, count, weight_decay=settings.weight_decay
        ).astype(dtype),
    )


def _dtype_of(tree: Params) -> jnp.dtype:
    """Half precision cannot tell 2/η from a curvature one part in a hundred above it."""
    found = {jnp.result_type(leaf) for leaf in jax.tree.leaves(tree)}
    if found not in ({jnp.dtype("float32")}, {jnp.dtype("float64")}):
        names = ", ".join(sorted(dtype.name for dtype in found))
        raise ValueError(
            f"parameters must be all float32 or all float64 for curvatures; got {names}"
        )
    return found.pop()


def directional(
    loss: LossFn, params: Params, now: Snapshot, which: Sequence[Quotient] = get_args(Quotient)
) -> dict[str, Float[Array, ""]]:
    """Curvatures along the gradient and along Adam's update, by forward derivatives alone.

    Args:
        loss: the loss on this step's batch as a function of the parameters.
        params: θ_t.
        now: of Adam, at the same step.
        which: the curvatures wanted; each costs one second derivative along one direction.

    Returns:
        Scalars by name.

    Raises:
        ValueError: if ``which`` holds an unknown name.

    Example:
        >>> loss = lambda x: (jnp.array([1.0, 3.0]) * x**2).sum() / 2
        >>> grads = jax.grad(loss)(jnp.array([1.0, 0.0]))
        >>> now = Snapshot(grads, grads, jnp.full(2, 10.0), jnp.ones(()), jnp.ones(()))
        >>> values = directional(loss, jnp.array([1.0, 0.0]), now)
        >>> {name: float(value) for name, value in values.items()}
        {'lambda_grad': 1.0, 'curvature_a': 10.0, 'curvature_b': 10.0, 'curvature_c': 10.0}
    """
    _check(which, get_args(Quotient))
    steepest = jax.tree.map(jnp.multiply, now.diagonal, now.grads)
    update = jax.tree.map(jnp.multiply, now.diagonal, now.moment)
    one = jnp.ones_like(now.factor)
    # Scale, left, right and dual of scale * leftᵀ H right / dualᵀ right, where dual = D⁻¹ left
    # is known without a division.
    terms = {
        "lambda_grad": (one, now.grads, now.grads, now.grads),
        "curvature_a": (now.factor, steepest, now.grads, now.grads),
        "curvature_b": (now.factor, steepest, steepest, now.grads),
        "curvature_c": (now.factor, update, update, now.moment),
    }
    return {name: _quotient(loss, params, *terms[name]) for name in which}


def _quotient(
    loss: LossFn, params: Params, scale: Array, left: Params, right: Params, dual: Params
) -> Float[Array, ""]:
    """Scale * leftᵀ H right / dualᵀ right, each vector first divided by its largest entry.

    Near a minimum the squares of float32 gradients underflow.
    """
    left, left_size = _normalised(left)
    right, _ = _normalised(right)
    dual, dual_size = _normalised(dual)
    curvature = products.bilinear_form(loss, params, left, right)
    return scale * curvature / optax.tree.vdot(dual, right) * (left_size / dual_size)


def _normalised(tree: Params) -> tuple[Params, Float[Array, ""]]:
    size = jnp.asarray(optax.tree.max(jax.tree.map(jnp.abs, tree)))
    return jax.tree.map(lambda leaf: leaf / size, tree), size


def eigenpair(
    hvp: Callable[[Params], Params],
    now: Snapshot,
    which: Eigenvalue,
    start: Params,
    products: int,
) -> Eigenpairs:
    """The largest eigenvalue of H, or of Adam's preconditioned Hessian, by Lanczos.

    Args:
        hvp: the Hessian at θ_t times a tangent.
        now: of Adam, at the same step.
        which: ``"lambda_max"`` of H, or ``"lambda_max_adam"`` of the symmetric f D^½ H D^½.
        start: where to search from, one or more vectors along a leading axis: the ``vectors`` of an
            earlier step, or ``phenodl.curvature.cold_start(params)``.
        products: Hessian-vector products to spend. Warm-started, three hold the eigenvalue within
            1e-3; from a cold start it takes 8 to 20.

    Raises:
        ValueError: if ``which`` is neither of the two.

    Example:
        >>> grads, scales = jnp.ones(2), jnp.array([1.0, 3.0])
        >>> now = Snapshot(grads, grads, jnp.full(2, 10.0), jnp.ones(()), jnp.ones(()))
        >>> start = cold_start(grads)
        >>> top = eigenpair(lambda x: scales * x, now, "lambda_max_adam", start, products=2)
        >>> round(float(top.values[0]), 3)
        30.0
    """
    _check([which], get_args(Eigenvalue))
    matvec = hvp
    if which == "lambda_max_adam":
        matvec = operators.preconditioned(hvp, now.diagonal, now.factor)
    return lanczos(matvec, start, products=products)


def gradient_probe(
    settings: Settings = adam.from_hyper,
    which: Sequence[Quotient] = get_args(Quotient),
    every: int = 1,
) -> Probe:
    """Records the curvatures along gradient and update, under the names in ``which``.

    Args:
        settings: Adam's hyper-parameters from those of a run, the same function that built the
            optimizer; by default every value that the run names, and optax's defaults elsewhere.
        which: the curvatures wanted.
        every: measure at every so many steps.

    Raises:
        ValueError: if ``which`` holds an unknown name.

    Example:
        >>> gradient_probe(which=["curvature_b", "curvature_c"], every=5).every
        5
    """
    _check(which, get_args(Quotient))

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        now = _snapshot_of(view, settings)
        return state, directional(view.objective.function, view.params, now, which)

    return Probe(measure, every=every)


def threshold_probe(settings: Settings = adam.from_hyper, every: int = 1) -> Probe:
    """Records ``threshold``, the bound 2/η_t - weight decay on the preconditioned curvature.

    Args:
        settings: Adam's hyper-parameters from those of a run, as for ``gradient_probe``.
        every: measure at every so many steps.

    Example:
        >>> threshold_probe().emit
        'step'
    """

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        return state, {"threshold": _snapshot_of(view, settings).threshold}

    return Probe(measure, every=every)


def eigenvalue_probe(
    settings: Settings = adam.from_hyper,
    which: Sequence[Eigenvalue] = get_args(Eigenvalue),
    products: int = 3,
    every: int = 1,
) -> Probe:
    """Records largest eigenvalues, and their residuals as ``lambda_max_residual`` and so on.

    All share the linearization that also gave the gradient. Each search starts from the
    eigenvector found before, which the probe remembers.

    Args:
        settings: Adam's hyper-parameters from those of a run, as for ``gradient_probe``.
        which: ``"lambda_max"`` of H, ``"lambda_max_adam"`` of Ĥ, or both.
        products: Hessian-vector products per eigenvalue and measurement.
        every: measure at every so many steps.

    Raises:
        ValueError: if ``which`` holds an unknown name.

    Example:
        >>> eigenvalue_probe(which=["lambda_max_adam"]).products
        True
    """
    _check(which, get_args(Eigenvalue))

    def init(key: Key[Array, ""], params: Params) -> dict[str, Params]:
        del key
        # The two largest eigenvalues are often close and cross: one vector would lose the lead.
        vectors = min(2, products, optax.tree.size(params))
        return {name: cold_start(params, vectors) for name in which}

    def measure(state: dict[str, Params], view: View) -> tuple[dict[str, Params], dict[str, Array]]:
        assert view.objective.hvp is not None
        now = _snapshot_of(view, settings)
        vectors, values = {}, {}
        for name in which:
            top = eigenpair(view.objective.hvp, now, name, state[name], products)
            vectors[name] = top.vectors
            values |= {name: top.values[0], f"{name}_residual": top.residuals[0]}
        return vectors, values

    return Probe(measure, init=init, every=every, products=True)


def _snapshot_of(view: View, settings: Settings) -> Snapshot:
    if jnp.ndim(view.objective.loss):
        raise ValueError("curvature probes see one run at a time; use Layout(run_axis=0)")
    return snapshot(view.method_state, settings(view.hyper), view.objective.grads)


def _check(which: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in which if name not in known]
    if unknown or not which:
        raise ValueError(f"which must name some of {', '.join(known)}; got {list(which)}")
