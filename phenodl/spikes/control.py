"""Controllers of loss spikes: an optimizer with Adam in it, held back while a predictor alarms.

:func:`guarded` wraps any optax chain that holds one Adam. At every step it asks a predictor
(:mod:`phenodl.spikes.predict`) for its signal, in units of its threshold, and where the signal
passes the margin κ of a *response*, that response corrects the step:

    scale             the whole step by κ / signal, which brings η down to where it is stable
    raise_all         v by (signal / κ)², which brings D down by as much, and lasts
    raise_coordinates the same for those coordinates that carry the curvature, see there
    floor             v̂ to at least a square, as a larger ε would
    switch_b2         v by a smaller b2, that lets it follow g² faster
    reset             v̂ to g², as if Adam had just begun

A response that changes v has the optimizer make its step again as if v had been that before, so
that whatever else the chain does (clipping, weight decay, a schedule) is done as always. Where
nothing alarms the step is the optimizer's own, bit for bit. A signal that is not finite or not
positive is no alarm.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, PyTree

from phenodl.optim import adam
from phenodl.optim.adam import Adam, LearningRate, Scalar
from phenodl.protocol import LossFn, Params
from phenodl.spikes.predict import (
    Observation,
    Point,
    Predictor,
    above_average,
    before_the_first_step,
    difference,
    highest,
    secant,
)
from phenodl.spikes.snapshots import dtype_of, snapshot, unmasked


class Moments(NamedTuple):
    """Adam's second moment around a step, without bias correction; zero where it is masked.

    Attributes:
        before: v_{t-1}.
        after: v_t.
        squares: the g² that v absorbed, after whatever the chain does to a gradient before Adam.
        correction: 1 - b2^t: v̂ = v / correction.
    """

    before: Params
    after: Params
    squares: Params
    correction: Float[Array, ""]


class Correction(NamedTuple):
    """What becomes of a step.

    Attributes:
        scale: of the update, where v stays.
        second_moment: v_t; None leaves it.
    """

    scale: float | Float[Array, ""] = 1.0
    second_moment: Params | None = None


class Response(NamedTuple):
    """What is done where a signal passes the margin.

    Attributes:
        margin: κ, in units of the predictor's threshold.
        correct: ``correct(excess, moments, observation) -> Correction``, for an excess, the signal
            over κ, above 1.
        looks_back: whether it compares with the last step.
    """

    margin: Scalar
    correct: Callable[[Float[Array, ""], Moments, Observation], Correction]
    looks_back: bool = False


class GuardedState(NamedTuple):
    """State of a guarded optimizer.

    Attributes:
        optimizer: the state of the optimizer inside.
        predictor: of the predictor.
        last: where the last step stood; empty where neither predictor nor response looks back.
        signal: of the last step, in units of the predictor's threshold.
        active: whether the last step was corrected.
        corrected: how many steps have been.
    """

    optimizer: PyTree
    predictor: PyTree
    last: Point | tuple[()]
    signal: Float[Array, ""]
    active: Bool[Array, ""]
    corrected: Array


def _response(margin: Scalar, correct: Callable[..., Correction]) -> Response:
    _require_positive("margin", margin)
    return Response(margin, correct)


def _require_positive(name: str, value: Scalar) -> None:
    """Of what is known: a traced one is a hyper-parameter of the sweep."""
    if not isinstance(value, Tracer) and not value > 0:
        raise ValueError(f"{name} must be positive, got {value}")


def scale(margin: Scalar = 0.5) -> Response:
    """Scales the step by κ / signal: Adam with the learning rate that is stable there.

    Args:
        margin: κ.

    Raises:
        ValueError: ``margin`` is not positive.

    Example:
        >>> scale(0.5).margin
        0.5
    """

    def correct(excess: Array, moments: Moments, seen: Observation) -> Correction:
        del moments, seen
        return Correction(1 / excess)

    return _response(margin, correct)


def raise_all(margin: Scalar = 0.9) -> Response:
    """Raises v by the square of the excess; that divides D by the excess, where ε does not rule it.

    Args:
        margin: κ.

    Raises:
        ValueError: ``margin`` is not positive.

    Example:
        >>> raise_all().margin
        0.9
    """

    def correct(excess: Array, moments: Moments, seen: Observation) -> Correction:
        del seen
        raised = jax.tree.map(lambda v: excess**2 * v, moments.after)
        return Correction(second_moment=raised)

    return _response(margin, correct)


def raise_coordinates(margin: Scalar = 0.5, most: float = 10.0) -> Response:
    """Raises v where the curvature is: v_i by 1 + (excess² - 1) min(w_i, 1).

    The weights w = D y² / mean(D y²), y the last change of the gradient, are the shares of the
    coordinates in yᵀDy, the curvature that :func:`phenodl.spikes.predict.secant` sees; zero where
    there is no such change, and at the first step.

    Args:
        margin: κ.
        most: largest excess that is acted upon.

    Raises:
        ValueError: ``margin`` is not positive, or ``most`` below 1.

    Example:
        >>> raise_coordinates().looks_back
        True
    """
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")

    def correct(excess: Array, moments: Moments, seen: Observation) -> Correction:
        now = seen.now
        change = difference(now.grads, seen.last.grads, now.diagonal)
        shares = jax.tree.map(lambda d, y: (d * y) * y, now.diagonal, change)
        taking_part = jax.tree.map(lambda d: (d > 0).astype(d.dtype), now.diagonal)
        mean = jnp.asarray(optax.tree.sum(shares)) / jnp.asarray(optax.tree.sum(taking_part))
        growth = jnp.minimum(excess, most) ** 2 - 1

        def raised(v: Array, share: Array) -> Array:
            # Nothing is known of the curvature where g has not changed, and at the first step.
            weight = jnp.where(mean > 0, jnp.minimum(share / mean, 1), 0)
            return v * (1 + growth * weight)

        return Correction(second_moment=jax.tree.map(raised, moments.after, shares))

    return _response(margin, correct)._replace(looks_back=True)


def floor(least: Scalar, margin: Scalar = 1.0) -> Response:
    """Keeps v̂ at ``least``² or above while the predictor alarms.

    Args:
        least: of sqrt(v̂), in units of the gradient.
        margin: κ.

    Raises:
        ValueError: ``least`` or ``margin`` is not positive.

    Example:
        >>> floor(1e-3).margin
        1.0
    """
    _require_positive("least", least)

    def correct(excess: Array, moments: Moments, seen: Observation) -> Correction:
        del seen
        bound = least**2 * moments.correction
        raised = jax.tree.map(lambda v: jnp.maximum(v, bound), moments.after)
        return Correction(second_moment=raised)

    return _response(margin, correct)


def switch_b2(b2: Scalar = 0.9, margin: Scalar = 1.0) -> Response:
    """Lets v follow g² with a smaller b2 while the predictor alarms.

    The bias correction stays that of Adam's own b2.

    Args:
        b2: the smaller one, below Adam's.
        margin: κ.

    Raises:
        ValueError: ``b2`` is not in [0, 1), or ``margin`` not positive.

    Example:
        >>> switch_b2(0.9).margin
        1.0
    """
    if isinstance(b2, int | float) and not 0 <= b2 < 1:
        raise ValueError(f"b2 must be in [0, 1), got {b2}")

    def correct(excess: Array, moments: Moments, seen: Observation) -> Correction:
        del seen
        followed = jax.tree.map(
            lambda v, square: b2 * v + (1 - b2) * square, moments.before, moments.squares
        )
        return Correction(second_moment=followed)

    return _response(margin, correct)


def reset(margin: Scalar = 1.0) -> Response:
    """Sets v̂ to g² at every alarm, the bias correction as it is.

    Args:
        margin: κ.

    Raises:
        ValueError: ``margin`` is not positive.

    Example:
        >>> reset().margin
        1.0
    """

    def correct(excess: Array, moments: Moments, seen: Observation) -> Correction:
        del seen
        begun = jax.tree.map(lambda square: moments.correction * square, moments.squares)
        return Correction(second_moment=begun)

    return _response(margin, correct)


FREE = highest(secant("norm"), above_average("grad_norm", 4.0))
"""The predictor of :func:`guarded`, without a second derivative. On the full batch the secant
curvature tells, which κ = 1/2 acts upon at half of the bound; on mini-batches, where it is mostly
the noise between two batches and stays far below, the gradient norm at twice its average."""

GENTLE = raise_coordinates()
"""The response of :func:`guarded`: where the curvature is, and for as long as v remembers."""


def guarded(
    optimizer: optax.GradientTransformation,
    response: Response = GENTLE,
    predictor: Predictor = FREE,
    *,
    learning_rate: LearningRate | None = None,
    b1: Scalar | None = None,
    b2: Scalar | None = None,
    eps: Scalar | None = None,
    eps_root: Scalar | None = None,
    weight_decay: Scalar | None = None,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer whose steps are corrected while a predictor alarms.

    A hyper-parameter that is not given is the one ``optax.inject_hyperparams`` gave Adam, if it
    did, and else optax's default (no weight decay).

    ``optax.MultiSteps`` and ``apply_if_finite`` go around a guarded optimizer, not inside; of
    ``optax.partition`` guard each part by itself. Clipping of the gradient goes before it,
    ``optax.chain(clip, guarded(...))``: one inside shrinks v but not the gradients that a predictor
    compares, which then alarms too early. ``optax.nadam`` turns unstable at 1 / (1 + 2 b1) of
    Adam's threshold: divide the margin of a curvature by 1 + 2 b1.

    Args:
        optimizer: any optax chain with one Adam in it; not ``optax.adamax``, ``lamb``, ``radam`` or
            ``yogi``, which make another v or another step of a state that looks the same.
        response: what is done at an alarm; the default and that of the predictor are one setting
            for all trainings of ``control-interventions``.
        predictor: that alarms.
        learning_rate: η, a number or the schedule that optax was given.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to sqrt(v̂).
        eps_root: added to v̂ inside the root.
        weight_decay: decoupled weight decay; it lowers the threshold.

    Returns:
        A transformation whose ``update`` wants the parameters, and takes two more arguments, both
        as in optax's line searches: ``value``, the loss, for predictors that watch it, and
        ``value_fn``, the loss on this batch as a function of the parameters, for those that
        differentiate it. Its state is a :class:`GuardedState`.

    Raises:
        ValueError: from ``init``, if the optimizer has no second moment, or the learning rate is
            neither given nor injected; from ``update``, if the parameters, or what the predictor
            needs, are not given.

    Example:
        >>> from phenodl.spikes import predict
        >>> response = scale(margin=0.01)  # far below what one would use, to see it act
        >>> tx = guarded(optax.adam(0.1), response, predict.secant("norm"), learning_rate=0.1)
        >>> params = jnp.array([1.0, -1.0])
        >>> state = tx.init(params)
        >>> for _ in range(3):
        ...     with jax.numpy_dtype_promotion("standard"):
        ...         updates, state = tx.update(100 * params, state, params)
        ...     params = optax.apply_updates(params, updates)
        >>> print(int(state.corrected), bool(state.active))
        2 True
    """
    if b2 is not None:
        _require_positive("b2", b2)
    given = {"learning_rate": learning_rate, "b1": b1, "b2": b2, "eps": eps}
    given |= {"eps_root": eps_root, "weight_decay": weight_decay}
    looks_back = predictor.looks_back or response.looks_back
    inside = optax.with_extra_args_support(optimizer)

    def init(params: optax.Params) -> GuardedState:
        dtype = dtype_of(params)
        state = optimizer.init(params)
        _require_adam(state)
        adam.settings_of(state, **given)
        return GuardedState(
            state,
            predictor.init(params),
            before_the_first_step(params) if looks_back else (),
            jnp.full((), jnp.nan, dtype),
            jnp.zeros((), bool),
            jnp.zeros((), int),
        )

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        value: Float[Array, ""] | None = None,
        value_fn: LossFn | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, GuardedState]:
        if not isinstance(state, GuardedState):
            raise ValueError(
                "state must come from init of the guarded optimizer; around the state of the one "
                "inside put init(params)._replace(optimizer=state)"
            )
        if params is None:
            raise ValueError("params must be given to update: update(grads, state, params)")
        if value is not None:
            extra["value"] = value
        if value_fn is not None:
            extra["value_fn"] = value_fn
        grads, before = updates, state.optimizer
        updates, after = inside.update(grads, before, params, **extra)
        settings = adam.settings_of(after, **given)
        now = snapshot(after, settings, grads)
        last = state.last or before_the_first_step(params)
        seen = Observation(params, value, value_fn, now, last)
        predicted, signal = predictor.update(state.predictor, seen)
        signal = signal / predictor.threshold
        active = jnp.isfinite(signal) & (signal > response.margin)
        excess = jnp.where(active, signal / response.margin, 1)

        def corrected() -> tuple[Params, PyTree]:
            moments = _moments(before, after, settings, grads)
            correction = response.correct(excess, moments, seen)
            if correction.second_moment is None:
                scaled = jax.tree.map(lambda u: jnp.asarray(correction.scale, u.dtype) * u, updates)
                return scaled, after
            earlier = _as_if(before, correction.second_moment, moments, settings)
            return inside.update(grads, earlier, params, **extra)

        updates, after = jax.lax.cond(active, corrected, lambda: (updates, after))
        last = Point(params, now.grads) if looks_back else ()
        count = state.corrected + active
        return updates, GuardedState(after, predicted, last, signal, active, count)

    return optax.GradientTransformationExtraArgs(init, update)


def _moments(before: PyTree, after: PyTree, settings: Adam, like: Params) -> Moments:
    states = [adam.adam_state(state) for state in (before, after)]
    old, new = (unmasked(state.nu, like) for state in states)
    with jax.numpy_dtype_promotion("standard"):
        correction = 1 - settings.b2 ** jnp.asarray(states[1].count)

        # From m, which fades with g: in v a small g² is lost among the digits of larger ones.
        def square(old: Array, new: Array) -> Array:
            return (((new - settings.b1 * old) / (1 - settings.b1)) ** 2).astype(new.dtype)

        squares = jax.tree.map(square, *(unmasked(state.mu, like) for state in states))
    return Moments(old, new, squares, correction.astype(jnp.result_type(*jax.tree.leaves(like))))


def _as_if(before: PyTree, wanted: Params, moments: Moments, settings: Adam) -> PyTree:
    """The state before the step, with the v that leads to the wanted one."""

    def each(old: PyTree, wanted: PyTree, square: PyTree) -> PyTree:
        if adam.is_masked(old):
            return old
        earlier = (wanted - (1 - settings.b2) * square) / settings.b2
        return jnp.maximum(earlier, 0).astype(old.dtype)

    nu = adam.adam_state(before).nu
    second = jax.tree.map(each, nu, wanted, moments.squares, is_leaf=adam.is_masked)
    return adam.with_second_moment(before, second)


def _require_adam(state: PyTree) -> None:
    try:
        adam.adam_state(state)
    except ValueError as error:
        raise ValueError(f"optimizer must have one second moment: {error}") from None
    if isinstance(state, optax.MultiStepsState):
        raise ValueError("optimizer must step at every gradient: put optax.MultiSteps around")
