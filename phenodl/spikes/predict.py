"""Predictors of loss spikes at every price, under one protocol.

A predictor sees every step of Adam, at θ_t with g_t absorbed, and gives a *signal* that rises
before a spike and alarms above the predictor's own threshold. The exact ones are curvatures in
units of the bound 2/η, see :mod:`phenodl.spikes.curvatures`, and take a second derivative per step.
The others take none. With d = θ_t - θ_{t-1}, y = g_t - g_{t-1}, D Adam's preconditioner and f the
momentum factor, K = f D^½ H D^½ is what must stay below 2/η, and y = H d to first order. So with
z = D^-½ d

    rayleigh    zᵀKz / zᵀz        = f dᵀy / dᵀD⁻¹d
    norm        |Kz| / |z|        = f (yᵀDy / dᵀD⁻¹d)^½
    stretch     |Kz|² / zᵀKz      = f yᵀDy / dᵀy

are three means of K's spectrum as the last update sees it, each at least as large as the one before
where K is positive (Cauchy and Schwarz). The second is the geometric mean of its neighbours; the
last is the inverse of Barzilai and Borwein's shorter step (IMA J. Numer. Anal. 8, 1988),
preconditioned. They cost a few passes over the parameters, and the memory of θ_{t-1} and g_{t-1}.

The rest are the rules of thumb that are in use: how far g² has fallen below v̂, whether updates turn
around, how far gradient or loss lie above their running average.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from phenodl.curvature.products import normalised, require_scalar
from phenodl.microbatch import BatchLoss, micro_batches
from phenodl.optim import adam
from phenodl.protocol import LossFn, Params, Probe, View
from phenodl.spikes.curvatures import Quotient, directional
from phenodl.spikes.snapshots import Settings, Snapshot, refuse_blocks, snapshot

Signal = Float[Array, ""]
Mean = Literal["rayleigh", "norm", "stretch"]
Average = Literal["grad_norm", "loss"]
Between = Literal["nothing", "last"]


class Point(NamedTuple):
    """Where a step stood: θ and g, NaN before the first step."""

    params: Params
    grads: Params


class Observation(NamedTuple):
    """What a predictor sees of a step.

    Attributes:
        params: θ_t, before the update.
        loss: on the batch of this step; None where the caller does not know it.
        function: the loss on this batch as a function of the parameters, likewise.
        now: Adam after absorbing g_t.
        last: θ_{t-1} and g_{t-1}; whoever calls the predictor remembers them.
        batch: of this step; None where the caller does not know it.
    """

    params: Params
    loss: Float[Array, ""] | None
    function: LossFn | None
    now: Snapshot
    last: Point
    batch: Any = None


class Predictor(NamedTuple):
    """A pair of pure functions, and what they cost.

    Attributes:
        init: ``init(params) -> state``; scalars, never a copy of the parameters.
        update: ``update(state, observation) -> (state, signal)``; NaN where there is none yet.
        threshold: the signal's alarm level.
        second_derivatives: along one direction, per step, in units of one on the whole batch.
        gradients: beside the one that the optimizer uses, per step.
        looks_back: whether it compares with the last step, whose θ and g must be remembered.
    """

    init: Callable[[Params], PyTree]
    update: Callable[[Any, Observation], tuple[Any, Signal]]
    threshold: float = 1.0
    second_derivatives: float = 0
    gradients: float = 0
    looks_back: bool = False

    @property
    def copies(self) -> int:
        """Arrays of the size of the parameters that must be remembered between steps."""
        return len(Point._fields) if self.looks_back else 0


def before_the_first_step(params: Params) -> Point:
    """The point to look back on at the first step: NaN, as are all signals that do.

    Example:
        >>> before_the_first_step(jnp.zeros(1)).grads.tolist()
        [nan]
    """
    # Multiplied, every array has a buffer of its own, and a training loop may donate them all.
    return Point(*(jax.tree.map(lambda leaf: jnp.nan * leaf, params) for _ in range(2)))


def difference(new: Params, old: Params, diagonal: Params) -> Params:
    """How parameters or gradients have changed, zero where a parameter takes no part.

    Args:
        new: at this step.
        old: at the last one, shaped alike.
        diagonal: D, shaped alike; zero where a parameter is frozen, whatever its gradient is.

    Example:
        >>> new, old, frozen_last = jnp.array([3.0, 2.0]), jnp.ones(2), jnp.array([0.5, 0.0])
        >>> difference(new, old, frozen_last).tolist()
        [2.0, 0.0]
    """
    return jax.tree.map(lambda d, new, old: jnp.where(d > 0, new - old, 0), diagonal, new, old)


def exact(which: Quotient = "curvature_b") -> Predictor:
    """A curvature of Adam's preconditioned Hessian, in units of 2/η.

    Args:
        which: the direction, see :mod:`phenodl.spikes.curvatures`; ``lambda_grad`` knows nothing of
            the preconditioner and its unit is the same.

    Raises:
        ValueError: if ``which`` is unknown.

    Example:
        >>> exact("curvature_a").second_derivatives
        1
    """
    _require("which", which, get_args(Quotient))

    def update(state: tuple[()], seen: Observation) -> tuple[tuple[()], Signal]:
        value = directional(_function(seen), seen.params, seen.now, [which])[which]
        return state, value / seen.now.threshold

    return Predictor(_nothing, update, second_derivatives=1)


def exact_on_part(loss: BatchLoss, which: Quotient = "curvature_b", *, parts: int = 8) -> Predictor:
    """The same with the Hessian of one part of the batch; g and D stay those of the whole.

    Each step takes the next part in turn. That is for batches drawn anew at every step, where each
    part is a random one; :func:`phenodl.spikes.subset.subset_probe` draws parts at random, and
    gives the error. In a loop of one's own, :func:`exact` with a ``value_fn`` on some of the
    examples does the same.

    Args:
        loss: ``loss(params, batch) -> scalar``, a mean over the examples, the leading axis of every
            array of the batch.
        which: the direction.
        parts: equal parts of the batch; it must divide it.

    Raises:
        ValueError: if ``which`` is unknown or ``parts`` below 1; while training, if ``parts`` does
            not divide the batch, or the batch is not known.

    Example:
        >>> exact_on_part(lambda params, batch: (params * batch).mean(), parts=8).second_derivatives
        0.125
    """
    _require("which", which, get_args(Quotient))
    if parts < 1:
        raise ValueError(f"parts must be at least 1, got {parts}")

    def update(count: Int[Array, ""], seen: Observation) -> tuple[Int[Array, ""], Signal]:
        if seen.batch is None:
            raise ValueError(
                "this predictor parts the batch, which is not known here: use exact() with a "
                "value_fn on some of the examples"
            )
        part = jax.tree.map(lambda leaf: leaf[count % parts], micro_batches(seen.batch, parts))
        value = directional(lambda params: loss(params, part), seen.params, seen.now, [which])
        return count + 1, value[which] / seen.now.threshold

    def init(params: Params) -> Int[Array, ""]:
        del params
        return jnp.zeros((), int)

    return Predictor(init, update, second_derivatives=1 / parts)


def secant(mean: Mean = "stretch", *, same_batch: bool = False) -> Predictor:
    """Curvature from the last two gradients, in units of 2/η, without a second derivative.

    On mini-batches y holds the noise of both batches beside H d; ``same_batch`` takes the last
    point's gradient again, on the batch of this one.

    Args:
        mean: which mean of the spectrum, see the module.
        same_batch: whether to spend that gradient.

    Returns:
        The predictor. Its signal is NaN at the first step, and where it is not defined: ``norm``
        and ``rayleigh`` after an update of zero, ``stretch`` where y is orthogonal to it.

    Raises:
        ValueError: if ``mean`` is unknown.

    Example:
        >>> secant("norm").second_derivatives, secant("norm", same_batch=True).gradients
        (0, 1)
    """
    _require("mean", mean, get_args(Mean))

    def update(state: tuple[()], seen: Observation) -> tuple[tuple[()], Signal]:
        now, last = seen.now, seen.last
        before = jax.grad(_function(seen))(last.params) if same_batch else last.grads
        step = difference(seen.params, last.params, now.diagonal)
        change = difference(now.grads, before, now.diagonal)
        curvature = now.factor * secant_mean(mean, step, change, now.diagonal)
        return state, curvature / now.threshold

    return Predictor(_nothing, update, gradients=int(same_batch), looks_back=True)


def secant_mean(mean: Mean, step: Params, change: Params, diagonal: Params) -> Float[Array, ""]:
    """One mean of the spectrum of D^½ H D^½, as the step d sees it, from y = H d.

    Args:
        mean: which of the three, see the module.
        step: d, of the parameters.
        change: y, of the gradient.
        diagonal: D; zero where a parameter takes no part.

    Example:
        >>> hessian, step = jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0])
        >>> for mean in ("rayleigh", "norm", "stretch"):
        ...     print(mean, secant_mean(mean, step, hessian * step, jnp.ones(2)).round(4))
        rayleigh 2.0
        norm 2.2361
        stretch 2.5
    """
    # D y and D⁻¹ d are of order one and of the order of g: so multiplied nothing underflows before
    # g itself does, where the squares of float32 gradients would.
    inner, length, square = (
        jnp.asarray(optax.tree.vdot(*pair))
        for pair in (
            (step, change),
            (step, jax.tree.map(jnp.multiply, _inverse(diagonal), step)),
            (change, jax.tree.map(jnp.multiply, diagonal, change)),
        )
    )
    if mean == "rayleigh":
        return inner / length
    if mean == "norm":
        return jnp.sqrt(square / length)
    return square / inner


def decoupling(threshold: float = 10.0, *, depth: int | None = None) -> Predictor:
    """How far g² has fallen below v̂: the ratio of their sums, |v̂| over |g|².

    Once it is far above 1, v decays whatever the gradient does, the second stage of a spike
    (SPIKE, arXiv 2506.04805). v̂ is read off D, so that it includes ε.

    Args:
        threshold: of the alarm.
        depth: the number of keys that name a layer: the largest ratio of all layers; None takes the
            sums over all parameters.

    Returns:
        The predictor. Layers that a mask keeps from Adam, or whose gradient is zero, do not count;
        where none is left the signal is NaN.

    Example:
        >>> decoupling(depth=1).looks_back
        False
    """

    def sums(tree: Params) -> Float[Array, "layers"]:
        if depth is None:
            return jnp.asarray(optax.tree.sum(tree))[None]
        return jnp.stack(list(adam.layer_sums(tree, depth=depth).values()))

    def update(state: tuple[()], seen: Observation) -> tuple[tuple[()], Signal]:
        grads, diagonal = seen.now.grads, seen.now.diagonal
        squares = jax.tree.map(jnp.square, grads)
        seconds = jax.tree.map(jnp.square, _inverse(diagonal))
        above, below = (sums(tree) for tree in (seconds, squares))
        known = (above > 0) & (below > 0)
        ratios = jnp.where(known, above / jnp.where(known, below, 1), jnp.nan)
        return state, jnp.nanmax(ratios)

    return Predictor(_nothing, update, threshold)


def reversal(threshold: float = 0.5) -> Predictor:
    """How much updates turn around: minus the cosine of this one and the last, 1 for a full turn.

    At the edge of stability the unstable direction alternates in sign.

    Args:
        threshold: of the alarm.

    Example:
        >>> reversal().looks_back
        True
    """

    def update(state: tuple[()], seen: Observation) -> tuple[tuple[()], Signal]:
        now = seen.now
        descent = jax.tree.map(jnp.multiply, now.diagonal, now.moment)  # minus this update, over η
        last = difference(seen.params, seen.last.params, now.diagonal)
        (descent, _), (last, _) = normalised(descent), normalised(last)
        lengths = optax.tree.norm(descent) * optax.tree.norm(last)
        return state, jnp.asarray(optax.tree.vdot(descent, last)) / lengths

    return Predictor(_nothing, update, threshold, looks_back=True)


class _Average(NamedTuple):
    count: Int[Array, ""]
    value: Float[Array, ""]
    weight: Float[Array, ""]


def above_average(
    of: Average = "grad_norm", threshold: float = 2.0, *, decay: float = 0.98, start: int = 1
) -> Predictor:
    """Gradient norm or loss over its own running average of the steps before.

    Args:
        of: what is watched.
        threshold: of the alarm.
        decay: of the average, per step; it is bias-corrected.
        start: the first step, from 0, that has a signal; an average of a few steps says little.

    Raises:
        ValueError: if ``of`` is unknown, ``decay`` not in [0, 1), or ``start`` below 1.

    Example:
        >>> above_average("loss", threshold=1.5).threshold
        1.5
    """
    _require("of", of, get_args(Average))
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), got {decay}")
    if start < 1:
        raise ValueError(f"start must be at least 1, got {start}")

    def init(params: Params) -> _Average:
        dtype = jnp.result_type(*jax.tree.leaves(params))
        return _Average(jnp.zeros((), int), jnp.zeros((), dtype), jnp.zeros((), dtype))

    def update(average: _Average, seen: Observation) -> tuple[_Average, Signal]:
        value = _loss(seen) if of == "loss" else optax.tree.norm(seen.now.grads)
        relative = value / (average.value / average.weight)
        signal = jnp.where(average.count < start, jnp.nan, relative)
        mixed = decay * average.value + (1 - decay) * value
        weight = decay * average.weight + (1 - decay)
        return _Average(average.count + 1, mixed, weight), signal

    return Predictor(init, update, threshold)


def highest(*predictors: Predictor) -> Predictor:
    """Alarms when any of several predictors does: the largest of their signals.

    Each counts in units of its own threshold, and not at all where it is not finite.

    Args:
        predictors: one or more.

    Raises:
        ValueError: if there are none.

    Example:
        >>> both = highest(secant("stretch"), above_average("grad_norm", threshold=2.0))
        >>> both.threshold, both.second_derivatives, both.copies
        (1.0, 0, 2)
    """
    if not predictors:
        raise ValueError("predictors must not be empty")

    def init(params: Params) -> tuple[PyTree, ...]:
        return tuple(each.init(params) for each in predictors)

    def update(states: tuple[PyTree, ...], seen: Observation) -> tuple[tuple[PyTree, ...], Signal]:
        pairs = [each.update(state, seen) for each, state in zip(predictors, states, strict=True)]
        signals = jnp.stack(
            [signal / each.threshold for each, (_, signal) in zip(predictors, pairs, strict=True)]
        )
        known = jnp.where(jnp.isfinite(signals), signals, -jnp.inf).max()
        signal = jnp.where(jnp.isfinite(known), known, jnp.nan)
        return tuple(state for state, _ in pairs), signal

    return Predictor(
        init,
        update,
        second_derivatives=sum(each.second_derivatives for each in predictors),
        gradients=sum(each.gradients for each in predictors),
        looks_back=any(each.looks_back for each in predictors),
    )


def secant_or_gradient(threshold: float = 1.5) -> Predictor:
    """The stretch of the last step, or the norm of the gradient over a slow average of its own.

    One predictor for full batches and mini-batches, without a second derivative. On a full batch
    the stretch decides. On mini-batches y is mostly the difference ξ of the noise of two batches,
    and d holds -η (1 - β1) D times the older of them: with S = E ξᵀDξ of one batch, yᵀDy is 2 S and
    dᵀy is η (1 - β1) S, so that the stretch stands at 1 / (1 + β1) of the bound, 0.53, whatever
    the Hessian is. Below the threshold, it leaves the signal to the gradient, which grows ahead of
    a spike.

    Args:
        threshold: of the gradient norm over its average, the alarm's second unit.

    Example:
        >>> free = secant_or_gradient()
        >>> free.second_derivatives, free.gradients, free.copies
        (0, 0, 2)
    """
    return highest(secant("stretch"), above_average("grad_norm", threshold, decay=0.995, start=50))


def held(predictor: Predictor, every: int, *, between: Between = "nothing") -> Predictor:
    """The same looked at every few steps only, for a fraction of the cost.

    A controller acts once per look: a response that lasts would compound if it saw one signal
    several times, so that there is none between looks. In a record, where each step is to have one,
    the last may hold until the next look.

    A ``lax.cond`` decides, which saves the cost in a training loop of one's own. Under ``vmap``
    both branches run; in the engine, give the probe its ``every`` instead.

    Args:
        predictor: any but those that keep a running average, which would miss steps.
        every: look at steps 0, every, 2 every, ...
        between: the signal of the other steps: ``nothing`` is NaN, ``last`` that of the last look.

    Raises:
        ValueError: if ``every`` is below 1 or ``between`` unknown.

    Example:
        >>> held(exact("curvature_b"), every=5).second_derivatives
        0.2
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    _require("between", between, get_args(Between))

    def init(params: Params) -> tuple[Array, PyTree, Signal]:
        dtype = jnp.result_type(*jax.tree.leaves(params))
        return jnp.zeros((), int), predictor.init(params), jnp.full((), jnp.nan, dtype)

    def update(state: tuple[Array, PyTree, Signal], seen: Observation):
        count, inner, kept = state
        inner, signal = jax.lax.cond(
            count % every == 0,
            lambda: predictor.update(inner, seen),
            lambda: (inner, kept),
        )
        return (count + 1, inner, signal if between == "last" else kept), signal

    return predictor._replace(
        init=init,
        update=update,
        second_derivatives=predictor.second_derivatives / every,
        gradients=predictor.gradients / every,
    )


def probe(
    predictors: Mapping[str, Predictor], settings: Settings = adam.from_hyper, every: int = 1
) -> Probe:
    """Records the signals of predictors, side by side on the same run.

    Args:
        predictors: by the names under which their signals are recorded.
        settings: Adam's hyper-parameters from those of a run.
        every: measure at every so many steps; 1 for those that look back.

    Raises:
        ValueError: if a predictor that looks back would see no last step.

    Example:
        >>> probe({"free": secant("stretch"), "exact": exact("curvature_a")}).every
        1
    """
    looking = [name for name, each in predictors.items() if each.looks_back]
    if every != 1 and looking:
        raise ValueError(f"every must be 1 for {', '.join(looking)}, which look back; got {every}")

    def init(key: Key[Array, ""], params: Params) -> tuple[Point, dict[str, PyTree]]:
        del key
        states = {name: each.init(params) for name, each in predictors.items()}
        return before_the_first_step(params), states

    def measure(state: tuple[Point, dict[str, PyTree]], view: View):
        refuse_blocks(view)
        (last, states), objective = state, view.objective
        now = snapshot(view.method_state, settings(view.hyper), objective.grads)
        seen = Observation(view.params, objective.loss, objective.function, now, last, view.batch)
        updated = {name: each.update(states[name], seen) for name, each in predictors.items()}
        states = {name: state for name, (state, _) in updated.items()}
        signals = {name: signal for name, (_, signal) in updated.items()}
        return (Point(view.params, now.grads), states), signals

    return Probe(measure, init=init, every=every)


def _nothing(params: Params) -> tuple[()]:
    """The state of a predictor that remembers nothing."""
    del params
    return ()


def _function(seen: Observation) -> LossFn:
    if seen.function is None:
        raise ValueError("this predictor differentiates the loss: it must be given as a function")
    require_scalar(seen.function, seen.params)
    return seen.function


def _loss(seen: Observation) -> Float[Array, ""]:
    if seen.loss is None:
        raise ValueError("this predictor watches the loss: its value must be given")
    return seen.loss


def _inverse(diagonal: Params) -> Params:
    """D⁻¹, zero where a parameter takes no part."""
    return jax.tree.map(lambda d: jnp.where(d > 0, 1 / jnp.where(d > 0, d, 1), 0), diagonal)


def _require(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
