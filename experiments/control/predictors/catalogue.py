"""The predictors by the names that configurations know."""

from collections.abc import Sequence

from experiments.control import tasks
from experiments.control.names import TRANSFORMERS
from phenodl.spikes import predict
from phenodl.spikes.predict import Predictor

EVERY, PARTS = 5, 8

PREDICTORS = {
    "curvature_a": predict.exact("curvature_a"),
    "curvature_b": predict.exact("curvature_b"),
    "curvature_c": predict.exact("curvature_c"),
    "curvature_b_every_5": predict.held(predict.exact("curvature_b"), EVERY, between="last"),
    "secant_same_batch": predict.secant("norm", same_batch=True),
    "secant_rayleigh": predict.secant("rayleigh"),
    "secant_norm": predict.secant("norm"),
    "secant_stretch": predict.secant("stretch"),
    "secant_or_gradient": predict.secant_or_gradient(),
    "decoupling": predict.decoupling(),
    "decoupling_layers": predict.decoupling(depth=1),
    "reversal": predict.reversal(),
    "grad_norm_rise": predict.above_average("grad_norm", 2.0),
    "loss_rise": predict.above_average("loss", 1.5),
}
"""Those that need to know nothing of the training."""


def predictors(names: Sequence[str], task: str) -> dict[str, Predictor]:
    """The predictors of those names that can watch a training, in the order of the names.

    That on part of the batch wants mini-batches, with the examples on the leading axis.
    """
    known = dict(PREDICTORS)
    if task in TRANSFORMERS:
        loss = tasks.task(task).problem.loss
        known["curvature_b_on_part"] = predict.exact_on_part(loss, "curvature_b", parts=PARTS)
    return {name: known[name] for name in names if name in known}
