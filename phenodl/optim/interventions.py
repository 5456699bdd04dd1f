"""Adam whose second moment follows another rule from some step on: experiments on the cause.

Two mechanisms move the curvature that Adam feels, the Hessian and the preconditioner. To tell them
apart, a run is repeated with the preconditioner under another rule from step s on, before a spike:

    frozen      v̂_t = v̂_{s-1}, and so D_t = D_{s-1}: only the Hessian can still change
    decaying    v_t = b2 v_{t-1}: the preconditioner's decay goes on, whatever the gradient does

The first moment and the bias corrections go on as in Adam. The rule and its step are *values*, a
number per run and layer, so that all arms of an experiment are runs of one compiled program. Runs
of one program do not disturb each other: an arm and its control agree bit for bit until step s, and
nothing needs to be branched.

The state holds one ``optax.ScaleByAdamState`` whose ``nu`` is the v that was used, so the views of
:mod:`phenodl.optim.adam` and all curvatures built on them see the preconditioner of the arm.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from phenodl.optim import adam
from phenodl.optim.adam import Adam, Scalar

NEVER = float("inf")
"""As the step of an intervention: the run stays Adam's."""


class Intervention(NamedTuple):
    """What becomes of the second moment.

    Attributes:
        step: the first step under the new rule, counted from 0. The very first step is Adam's in
            any case, 0 means 1: before it there is no v̂ to freeze and no v to decay.
        frozen: where v̂ is kept: 1, elsewhere 0; a number, or a tree that is a prefix of the
            parameters, such as a number per layer.
        decaying: where v only decays, in the same form; what is frozen as well stays frozen.

    Example:
        >>> Intervention(step=100, frozen={"layer_0": 1.0, "layer_1": 0.0}).decaying
        0.0
    """

    step: Scalar
    frozen: PyTree[Scalar] = 0.0
    decaying: PyTree[Scalar] = 0.0


class InterventionState(NamedTuple):
    """State of the optimizer.

    Attributes:
        adam: optax's own; ``nu`` is the v that was used.
        held: v̂ of the last step before the intervention.
    """

    adam: optax.ScaleByAdamState
    held: PyTree[Float[Array, "..."]]


def from_hyper(hyper: Mapping[str, Scalar], layers: Sequence[str] = ()) -> Intervention:
    """The intervention that a run's hyper-parameters describe.

    They are ``switch_step`` and, without ``layers``, ``frozen`` and ``decaying`` for all of v; with
    them, ``frozen/NAME`` for each layer, whose v then decays nowhere by rule.

    Args:
        hyper: scalars by name.
        layers: the top-level names of the parameters.

    Raises:
        ValueError: if one of these is missing.

    Example:
        >>> from_hyper({"switch_step": 9.0, "frozen/a": 1.0, "frozen/b": 0.0}, ["a", "b"]).frozen
        {'a': 1.0, 'b': 0.0}
    """
    rules = [f"frozen/{layer}" for layer in layers] or ["frozen", "decaying"]
    missing = [name for name in ("switch_step", *rules) if name not in hyper]
    if missing:
        raise ValueError(f"hyper must name {', '.join(missing)}; it names {sorted(hyper)}")
    if layers:
        frozen = {layer: hyper[f"frozen/{layer}"] for layer in layers}
        return Intervention(hyper["switch_step"], frozen)
    return Intervention(hyper["switch_step"], hyper["frozen"], hyper["decaying"])


def transformation(settings: Adam, intervention: Intervention) -> optax.GradientTransformation:
    """``optax.adam`` or ``optax.adamw`` until the intervention, and the new rule from there on.

    Args:
        settings: Adam's hyper-parameters.
        intervention: what becomes of v, from which step on; numbers, or traced scalars.

    Returns:
        The transformation. Its ``init`` raises a ValueError if ``frozen`` or ``decaying`` is a
        dictionary that misses a layer of the parameters, or has another.

    Example:
        >>> tx = transformation(Adam(0.1), Intervention(step=1, frozen=1.0))
        >>> state = tx.init(jnp.zeros(2))
        >>> for gradient in (4.0, 1.0, 0.5):
        ...     with jax.numpy_dtype_promotion("standard"):
        ...         _, state = tx.update(jnp.full(2, gradient), state, jnp.zeros(2))
        >>> print(adam.preconditioner(state, b2=0.999).round(4))
        [0.25 0.25]
    """
    return optax.chain(
        _scale_by_adam(settings, intervention),
        optax.add_decayed_weights(settings.weight_decay),
        optax.scale_by_learning_rate(settings.learning_rate),
    )


def _scale_by_adam(settings: Adam, intervention: Intervention) -> optax.GradientTransformation:
    _, b1, b2, eps, eps_root, _ = settings
    plain = optax.scale_by_adam(b1=b1, b2=b2, eps=eps, eps_root=eps_root)

    def init(params: optax.Params) -> InterventionState:
        for rule in ("frozen", "decaying"):
            _require_layers(rule, getattr(intervention, rule), params)
        return InterventionState(
            adam.adam_state(plain.init(params)), jax.tree.map(jnp.zeros_like, params)
        )

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, InterventionState]:
        del params
        assert isinstance(state, InterventionState)
        grads, before = updates, state.adam
        updates, absorbed = plain.update(grads, before)
        after = adam.adam_state(absorbed)
        count = jnp.asarray(before.count, jnp.result_type(float))
        begun = (count > 0) & (count >= intervention.step)
        frozen, decaying = (
            jax.tree.map(lambda weight: begun & (jnp.asarray(weight) > 0), weights)
            for weights in (intervention.frozen, intervention.decaying)
        )
        frozen, decaying = (jax.tree.broadcast(where, grads) for where in (frozen, decaying))

        held = jax.tree.map(
            lambda old, v: jnp.where(begun, old, v), state.held, adam.second_moment(after, b2=b2)
        )
        kept = jax.tree.map(lambda v: ((1 - b2**after.count) * v).astype(v.dtype), held)
        faded = jax.tree.map(lambda v: (b2 * v).astype(v.dtype), before.nu)
        nu = jax.tree.map(jnp.where, decaying, faded, after.nu)
        after = after._replace(nu=jax.tree.map(jnp.where, frozen, kept, nu))

        # Where no rule is at work the update is optax's own, to the last bit.
        def move(own: Array, m: Array, d: Array, *ruled: Array) -> Array:
            return jnp.where(ruled[0] | ruled[1], m * d, own)

        moment = adam.first_moment(after, b1=b1)
        diagonal = adam.preconditioner(after, b2=b2, eps=eps, eps_root=eps_root)
        updates = jax.tree.map(move, updates, moment, diagonal, frozen, decaying)
        return updates, InterventionState(after, held)

    return optax.GradientTransformation(init, update)


def _require_layers(rule: str, weights: PyTree[Scalar], params: optax.Params) -> None:
    if not (isinstance(weights, Mapping) and isinstance(params, Mapping)):
        return
    wrong = set(weights) ^ set(params)
    if wrong:
        raise ValueError(
            f"{rule} must have the layers of the parameters, {', '.join(map(str, params))}; it "
            f"misses or adds {', '.join(map(str, wrong))}"
        )
