"""The curvatures that decide whether Adam is stable: Adam's state joined with the Hessian.

With D = 1/(sqrt(v̂) + eps), f = (1 - b1)/(1 + b1)/(1 - b1^t) and the preconditioned Hessian
Ĥ = f D H, steps shrink while the curvature they feel stays below 2/η (SPIKE, arXiv 2506.04805).
Everything is evaluated at θ_t with v after g_t was absorbed, see :mod:`phenodl.spikes.snapshots`.
Along one direction:

    lambda_grad    gᵀ H g / gᵀ g            the plain Hessian along the gradient
    curvature_a    gᵀ Ĥ g / gᵀ g            Ĥ along the gradient, as in the paper
    curvature_b    f gᵀ D H D g / gᵀ D g    the same for the symmetric f D^½ H D^½
    curvature_c    f uᵀ H u / uᵀ D⁻¹ u      along the update u = D m̂

and over all directions ``lambda_max`` of H and ``lambda_max_adam`` of Ĥ. A quotient may be
negative, and is NaN where its direction vanishes. Parameters that a mask keeps from Adam count as
frozen: they have no direction and no curvature.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from phenodl.curvature import operators, products
from phenodl.curvature.lanczos import Eigenpairs, cold_start, lanczos
from phenodl.optim import adam
from phenodl.protocol import LossFn, Params, Probe, View
from phenodl.spikes.snapshots import Settings, Snapshot, refuse_blocks, snapshot

Quotient = Literal["lambda_grad", "curvature_a", "curvature_b", "curvature_c"]
Eigenvalue = Literal["lambda_max", "lambda_max_adam"]


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
    """Scale * leftᵀ H right / dualᵀ right, of normalised vectors."""
    left, left_size = products.normalised(left)
    right, _ = products.normalised(right)
    dual, dual_size = products.normalised(dual)
    curvature = products.bilinear_form(loss, params, left, right)
    return scale * curvature / optax.tree.vdot(dual, right) * (left_size / dual_size)


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


def alignment(vector: Params, now: Snapshot, which: Eigenvalue) -> Float[Array, ""]:
    """|cos| of the angle between the gradient and an eigenvector, in [0, 1]; NaN without gradient.

    For ``"lambda_max_adam"`` both are seen in the coordinates D^-½ θ, in which Adam is gradient
    descent and its operator symmetric: the gradient there is D^½ g. As an instability grows, the
    gradient turns into the unstable eigenvector, and a curvature along the gradient rises to the
    eigenvalue (SPIKE, arXiv 2506.04805).

    Args:
        vector: a unit eigenvector of the operator that ``which`` names, see :func:`eigenpair`.
        now: of Adam, at the same step.
        which: the operator.

    Raises:
        ValueError: if ``which`` names neither of the two.

    Example:
        >>> grads, diagonal = jnp.array([1.0, 2.0]), jnp.array([9.0, 4.0])
        >>> now = Snapshot(grads, grads, diagonal, jnp.ones(()), jnp.ones(()))
        >>> print(alignment(jnp.array([-1.0, 0.0]), now, "lambda_max_adam"))
        0.6
    """
    _check([which], get_args(Eigenvalue))
    direction = now.grads
    if which == "lambda_max_adam":
        direction = jax.tree.map(lambda d, g: jnp.sqrt(d) * g, now.diagonal, direction)
    direction, _ = products.normalised(direction)
    length = jnp.sqrt(optax.tree.vdot(direction, direction))
    cosine = jnp.abs(optax.tree.vdot(vector, direction)) / length
    return jnp.minimum(cosine, 1)


def mass(vector: Params, depth: int = 1) -> Float[Array, " layer"]:
    """The share that each layer has in an eigenvector: squared entries, summed; their sum is 1.

    Args:
        vector: any direction, not zero.
        depth: the number of keys that name a layer, see
            :func:`phenodl.spikes.decoupling.layer_names`, whose order this has.

    Example:
        >>> print(mass({"first": jnp.array([1.0, 1.0]), "second": jnp.array([2.0, 2.0])}))
        [0.2 0.8]
    """
    vector, _ = products.normalised(vector)
    sums = adam.layer_sums(jax.tree.map(jnp.square, vector), depth=depth)
    shares = jnp.stack(list(sums.values()))
    return shares / shares.sum()


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
    depth: int | None = None,
) -> Probe:
    """Records largest eigenvalues, and how their eigenvectors lie to the gradient and the layers.

    All share the linearization that also gave the gradient. Each search starts from the
    eigenvectors found before, which the probe remembers. The names in the records are

    =====================================  =================================================
    ``lambda_max_adam``, ``lambda_max``    the eigenvalue of Ĥ, of H
    ... ``_residual``                      some eigenvalue lies within this distance of it
    ``alignment``, ``alignment_plain``     of the gradient and its eigenvector, :func:`alignment`
    ``mass``, ``mass_plain``               of the eigenvector in each layer, :func:`mass`
    =====================================  =================================================

    Args:
        settings: Adam's hyper-parameters from those of a run, as for ``gradient_probe``.
        which: ``"lambda_max"`` of H, ``"lambda_max_adam"`` of Ĥ, or both.
        products: Hessian-vector products per eigenvalue and measurement, at least 2: the first is
            spent on the vector that is remembered.
        every: measure at every so many steps.
        depth: the number of keys that name a layer; None leaves the mass out.

    Raises:
        ValueError: if ``which`` holds an unknown name, or ``products`` is below 2.

    Example:
        >>> eigenvalue_probe(which=["lambda_max_adam"], depth=1).products
        True
    """
    _check(which, get_args(Eigenvalue))
    if products < 2:
        raise ValueError(f"products must be at least 2; it is {products}")

    def init(key: Key[Array, ""], params: Params) -> dict[str, Params]:
        del key
        # The two largest eigenvalues are often close and cross: one vector would lose the lead.
        # But some product must be left for a new direction.
        vectors = min(2, products - 1, optax.tree.size(params))
        return {name: cold_start(params, vectors) for name in which}

    def measure(state: dict[str, Params], view: View) -> tuple[dict[str, Params], dict[str, Array]]:
        assert view.objective.hvp is not None
        now = _snapshot_of(view, settings)
        vectors, values = {}, {}
        for name in which:
            top = eigenpair(view.objective.hvp, now, name, state[name], products)
            vectors[name] = top.vectors
            values |= {name: top.values[0], f"{name}_residual": top.residuals[0]}
            leading = jax.tree.map(lambda leaf: leaf[0], top.vectors)
            suffix = "" if name == "lambda_max_adam" else "_plain"
            values[f"alignment{suffix}"] = alignment(leading, now, name)
            if depth is not None:
                values[f"mass{suffix}"] = mass(leading, depth)
        return vectors, values

    return Probe(measure, init=init, every=every, products=True)


def _snapshot_of(view: View, settings: Settings) -> Snapshot:
    refuse_blocks(view)
    return snapshot(view.method_state, settings(view.hyper), view.objective.grads)


def _check(which: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in which if name not in known]
    if unknown or not which:
        raise ValueError(f"which must name some of {', '.join(known)}; got {list(which)}")
