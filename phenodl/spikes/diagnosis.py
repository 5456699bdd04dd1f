"""The post-mortem of a checkpoint: how far it is from a spike, which layers lead there, what helps.

:func:`diagnose` looks at parameters and optimizer state as they were saved between two steps, takes
the gradient there and says, as data, what :func:`page` prints.
"""

import decimal
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from phenodl.optim import adam
from phenodl.optim.adam import LearningRate, Scalar
from phenodl.protocol import Params
from phenodl.spikes.curvatures import mass
from phenodl.spikes.decoupling import layer_names
from phenodl.spikes.monitor import Report, monitor

DECOUPLED = 0.1
"""Ratio of g² to v̂ below which v decays on its own, as in :mod:`phenodl.spikes.decoupling`."""


GUARD = [
    "To hold only those steps back that need it, with the learning rate as it is,",
    "",
    "    optimizer = phenodl.guarded(optimizer, learning_rate=learning_rate)",
    "    state = optimizer.init(params)._replace(optimizer=saved_opt_state)",
    "",
    "with b1, b2, eps, weight_decay as your Adam has them, where they are not optax's defaults.",
]
"""How to go on from a checkpoint under a guard."""


class Diagnosis(NamedTuple):
    """What a checkpoint says about the steps to come.

    Attributes:
        count: gradients that Adam has absorbed.
        loss: on the batch.
        grad_norm: of the same.
        report: curvatures, eigenvalue and threshold.
        layers: the names of the layers.
        gradient_ratio: of g² to v̂, per layer; far below 1 v decays whatever the gradient does.
        mass: the share of each layer in the eigenvector of the largest eigenvalue.
        steps_to_threshold: until the largest eigenvalue passes the threshold if v only decays and
            the Hessian stays: 2 log(threshold / lambda_max) / -log b2. Zero if it is beyond, or v
            forgets at once, b2 = 0; infinite if it is not positive.
        stable_learning_rate: the η at which the largest eigenvalue would be at the threshold,
            2 / (lambda_max + weight_decay); infinite if no η is too large.
    """

    count: Int[Array, ""]
    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]
    report: Report
    layers: tuple[str, ...]
    gradient_ratio: Float[Array, " layer"]
    mass: Float[Array, " layer"]
    steps_to_threshold: Float[Array, ""]
    stable_learning_rate: Float[Array, ""]


def diagnose(
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
    products: int = 20,
    depth: int = 1,
) -> Diagnosis:
    """Looks at a checkpoint of a training by Adam.

    Args:
        loss: ``loss(params, batch) -> scalar``.
        params: as saved.
        opt_state: of any optax chain with one Adam in it, saved with them.
        batch: to measure on, the larger the better.
        learning_rate: η, and the rest as for :func:`phenodl.spikes.monitor.monitor`.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to sqrt(v̂).
        eps_root: added to v̂ inside the root.
        weight_decay: decoupled weight decay.
        products: Hessian-vector products for the eigenvalue, from a cold start.
        depth: the number of keys that name a layer.

    Raises:
        ValueError: as the monitor, or Adam has not absorbed a gradient yet.

    Example:
        >>> loss = lambda params, batch: 0.5 * batch * (params["w"] ** 2).sum()
        >>> params, tx = {"w": jnp.array([1.0, 2.0])}, optax.adam(0.1)
        >>> with jax.numpy_dtype_promotion("standard"):
        ...     _, state = tx.update(jax.grad(loss)(params, 3.0), tx.init(params))
        >>> found = diagnose(loss, params, state, 3.0, learning_rate=0.1, products=2)
        >>> found.layers, round(float(found.report.lambda_max), 3)
        (('w',), 0.526)
    """
    state = adam.adam_state(opt_state)
    if int(jnp.asarray(state.count)) == 0:
        raise ValueError("opt_state must have absorbed a gradient; this one is as init made it")
    given = {"learning_rate": learning_rate, "b1": b1, "b2": b2, "eps": eps}
    given |= {"eps_root": eps_root, "weight_decay": weight_decay}
    settings = adam.settings_of(opt_state, **given)
    report = monitor(loss, params, opt_state, batch, **given, products=products)
    value, grads = jax.value_and_grad(loss)(params, batch)
    ratio = adam.gradient_ratio(opt_state, grads, b2=settings.b2, depth=depth)
    names = layer_names(params, depth)
    top = jax.tree.map(lambda leaf: leaf[0], report.vector)
    decay = jnp.asarray(settings.weight_decay, report.lambda_max.dtype)
    return Diagnosis(
        count=jnp.asarray(state.count),
        loss=value,
        grad_norm=optax.tree.norm(grads),
        report=report,
        layers=names,
        gradient_ratio=jnp.stack(
            [ratio[name] if name in ratio else jnp.nan * value for name in names]
        ),
        mass=mass(top, depth),
        steps_to_threshold=_steps_to(report, settings.b2),
        stable_learning_rate=2 / jnp.maximum(report.lambda_max + decay, 0),
    )


def page(found: Diagnosis) -> str:
    """A diagnosis as a page to print.

    Args:
        found: of a checkpoint.

    Example:
        >>> loss = lambda params, batch: 0.5 * batch * (params["w"] ** 2).sum()
        >>> params, tx = {"w": jnp.array([1.0, 2.0])}, optax.adam(0.1)
        >>> with jax.numpy_dtype_promotion("standard"):
        ...     _, state = tx.update(jax.grad(loss)(params, 3.0), tx.init(params))
        >>> text = page(diagnose(loss, params, state, 3.0, learning_rate=0.1, products=2))
        >>> print(text.splitlines()[0])
        Adam after 1 gradient: loss 7.5, gradient norm 6.71
    """
    plural = "" if int(found.count) == 1 else "s"
    head = f"Adam after {int(found.count)} gradient{plural}: loss {float(found.loss):.3g}"
    lines = [f"{head}, gradient norm {float(found.grad_norm):.3g}", ""]
    lines += ["in units of the threshold 2/η minus the weight decay:"]
    lines += [f"  {label:<36} {value:8.3g}" for label, value in _relative(found)]
    width = max(map(len, (*found.layers, "layer")))
    lines += ["", f"{'layer':<{width}}  g²/v̂      share of the most unstable direction"]
    lines += [
        f"{layer:<{width}}  {float(ratio):<9.2g}  {float(share):.2f}"
        for layer, ratio, share in zip(found.layers, found.gradient_ratio, found.mass, strict=True)
    ]
    return "\n".join([*lines, "", *_verdict(found), ""])


def _relative(found: Diagnosis) -> list[tuple[str, float]]:
    report = found.report
    rows = {
        "curvature along the gradient (A)": report.curvature_a,
        "the same, symmetric (B)": report.curvature_b,
        "along the update (C)": report.curvature_c,
        "largest eigenvalue": report.lambda_max,
        "  known to within": report.residual,
    }
    return [(label, float(value / report.threshold)) for label, value in rows.items()]


def _verdict(found: Diagnosis) -> list[str]:
    broken = _not_finite(found)
    lines = [f"Not finite: {', '.join(broken)}. How stable the steps to come are is unknown."]
    if not broken:
        lines = [_stability(found)]
    decoupled = [
        layer
        for layer, ratio in zip(found.layers, found.gradient_ratio, strict=True)
        if float(ratio) < DECOUPLED
    ]
    steps = float(found.steps_to_threshold)
    if decoupled:
        lines += [f"v decays on its own (g² below v̂/10) in {', '.join(decoupled)}."]
        if 0 < steps < math.inf and not broken:
            lines += [f"If that goes on everywhere, the threshold is {steps:.0f} steps away."]
    elif not broken:
        lines += ["v follows g² in all layers."]
    if _beyond(found):
        lines += _smaller_step(found)
    if _beyond(found) or (decoupled and math.isfinite(steps)):
        lines += GUARD
    return lines


def _not_finite(found: Diagnosis) -> list[str]:
    values = {
        "the loss": found.loss,
        "the gradient": found.grad_norm,
        "the curvature along the gradient": found.report.curvature_a,
        "the largest eigenvalue": found.report.lambda_max,
    }
    return [name for name, value in values.items() if not math.isfinite(value)]


def _beyond(found: Diagnosis) -> bool:
    largest = float(found.report.lambda_max)
    return math.isfinite(largest) and largest > float(found.report.threshold)


def _stability(found: Diagnosis) -> str:
    report = found.report
    if float(report.curvature_a) > float(report.threshold):
        return "Unstable along the gradient: the loss is about to leave its minimum."
    if _beyond(found):
        aligned = f"the gradient is turned towards it by a cosine of {float(report.alignment):.2f}"
        return f"Unstable in one direction, not yet along the gradient; {aligned}."
    return "Stable."


def _smaller_step(found: Diagnosis) -> list[str]:
    report, bound = found.report, float(found.stable_learning_rate)
    remedy = f"a learning rate below {_two_digits(bound, decimal.ROUND_DOWN)}"
    if float(report.threshold) > 0:  # else the weight decay alone is too much, whatever v
        raised = float(report.lambda_max / report.threshold) ** 2
        remedy += f", or v times {_two_digits(raised, decimal.ROUND_UP)}"
    return [
        f"Stable here, at best: {remedy}; the largest eigenvalue is a lower bound. To go on from"
        " this checkpoint at half of that rate,",
        "",
        f"    optimizer = optax.adam({_two_digits(bound / 2, decimal.ROUND_DOWN)})"
        "  # otherwise as before",
        "",
    ]


def _two_digits(value: float, rounding: str) -> str:
    rounded = decimal.Context(prec=2, rounding=rounding).create_decimal(value)
    return f"{float(rounded):.2g}"


def _steps_to(report: Report, b2: Scalar) -> Float[Array, ""]:
    """Steps until the largest eigenvalue is at the threshold, growing as b2^(-t/2)."""
    largest, threshold = report.lambda_max, report.threshold
    relative = largest / threshold
    decay = -jnp.log(jnp.asarray(b2, relative.dtype))
    steps = jnp.maximum(-2 * jnp.log(relative) / decay, 0)
    steps = jnp.where(jnp.minimum(relative, largest) <= 0, jnp.inf, steps)
    return jnp.where(largest > threshold, 0, steps)
