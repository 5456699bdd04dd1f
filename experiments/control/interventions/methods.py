"""The methods that are compared: each has one knob, the *setting* of the run.

The controllers are :func:`phenodl.spikes.control.guarded` around the training's Adam. ``guarded``
is the one with its own predictor; the others are alarmed by the secant curvature, which needs no
second derivative either, unless they are said to be exact. Of the rivals, optax has AMSGrad, the
clippings of the gradient and the schedule.
"""

import functools
from collections.abc import Callable

import optax

from phenodl import training
from phenodl.optim import adam
from phenodl.optim.adam import Adam, Scalar
from phenodl.optim.clipping import spam, stable_adamw
from phenodl.protocol import Hyper, Method
from phenodl.spikes import control, predict
from phenodl.spikes.control import (
    Response,
    floor,
    guarded,
    raise_all,
    raise_coordinates,
    reset,
    scale,
    switch_b2,
)
from phenodl.spikes.predict import Predictor

EARLY = 0.5
"""Margin of the responses whose knob is another number."""

WARMUP = 0.1
"""Share of the steps in which the schedule rises; then it falls to zero along a cosine."""

Build = Callable[[Adam, Scalar], optax.GradientTransformation]


@functools.cache
def method(name: str, steps: int) -> Method:
    """A method by its name; one object, so that equal programs compile once.

    Args:
        name: one of the configuration's ``METHODS``; its knob is the run's ``setting``.
        steps: of the training, which a schedule must know.
    """
    return training.from_optax(optimizer(name, steps))


def optimizer(name: str, steps: int) -> Callable[[Hyper], optax.GradientTransformation]:
    """The same as an optax transformation of a run's hyper-parameters."""
    build = _scheduled(steps) if name == "schedule" else _BUILD[name]
    return lambda hyper: build(adam.from_hyper(hyper), hyper["setting"])


def _guard(response: Callable[[Scalar], Response], predictor: Predictor) -> Build:
    def build(settings: Adam, setting: Scalar) -> optax.GradientTransformation:
        return guarded(
            settings.transformation(), response(setting), predictor, **settings._asdict()
        )

    return build


def _before(clipping: Callable[[Scalar], optax.GradientTransformation]) -> Build:
    """Adam on a gradient that is clipped first."""
    return lambda settings, setting: optax.chain(clipping(setting), settings.transformation())


def _scheduled(steps: int) -> Build:
    rise = round(WARMUP * steps)
    shape = optax.warmup_cosine_decay_schedule(0.0, 1.0, rise, steps)

    def build(settings: Adam, setting: Scalar) -> optax.GradientTransformation:
        highest = setting * _rate(settings)
        return settings._replace(learning_rate=lambda t: highest * shape(t)).transformation()

    return build


def _times_rate(settings: Adam, factor: Scalar) -> Adam:
    return settings._replace(learning_rate=factor * _rate(settings))


def _rate(settings: Adam) -> Scalar:
    assert not callable(settings.learning_rate)  # those of the sweeps are numbers
    return settings.learning_rate


def _amsgrad(settings: Adam, setting: Scalar) -> optax.GradientTransformation:
    rated = _times_rate(settings, setting)
    return optax.amsgrad(rated.learning_rate, rated.b1, rated.b2, rated.eps)


def _stable_adamw(settings: Adam, setting: Scalar) -> optax.GradientTransformation:
    rate, b1, b2, eps, _, weight_decay = settings
    return stable_adamw(rate, b1, b2, eps, threshold=setting, weight_decay=weight_decay)


def _spam(settings: Adam, setting: Scalar) -> optax.GradientTransformation:
    rate, b1, b2, eps, *_ = settings
    return spam(rate, b1, b2, eps, threshold=setting)


SECANT = predict.secant("norm")

_BUILD: dict[str, Build] = {
    "adam": lambda settings, _: settings.transformation(),
    "guarded": _guard(raise_coordinates, control.FREE),
    "scale": _guard(scale, SECANT),
    "scale_exact": _guard(scale, predict.exact("curvature_c")),
    "raise_all": _guard(raise_all, SECANT),
    "raise_all_exact": _guard(raise_all, predict.exact("curvature_b")),
    "raise_coordinates": _guard(raise_coordinates, SECANT),
    "floor": _guard(lambda least: floor(least, EARLY), SECANT),
    "switch_b2": _guard(lambda b2: switch_b2(b2, EARLY), SECANT),
    "reset": _guard(reset, SECANT),
    "amsgrad": _amsgrad,
    "stable_adamw": _stable_adamw,
    "spam": _spam,
    "clip_global": _before(optax.clip_by_global_norm),
    "clip_adaptive": _before(optax.adaptive_grad_clip),
    "lower_b2": lambda settings, b2: settings._replace(b2=b2).transformation(),
    "smaller_rate": lambda settings, factor: _times_rate(settings, factor).transformation(),
}
