import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.claims import Claim, Target, exact, share
from experiments.experiment import Analysis
from phenodl import plots, probes, sweep, training
from phenodl.protocol import Problem

# Equal functions share one compilation among all the runs of a test session.
PROBLEM = Problem(
    init=lambda key, data, hyper: jax.random.normal(key, data["curvatures"].shape),
    loss=lambda theta, batch: jnp.sum(batch["curvatures"] * theta**2) / 2,
)
METHOD = training.from_optax(lambda hyper: optax.adam(hyper["learning_rate"], b2=hyper["b2"]))
PROBES = (probes.loss(),)


def train(config, recorder):
    problem = PROBLEM._replace(data={"curvatures": jnp.asarray(config.curvatures)})
    runs = sweep.product(
        key=jax.random.key(0),
        seed=range(config.seeds),
        learning_rate=config.optimizer.learning_rate,
        b2=config.optimizer.b2,
    )
    for name in ("first", "second"):
        recorder.train(name, problem, METHOD, runs, steps=config.steps, chunk=10, probes=PROBES)


def analyze(config, results):
    losses = results["first"].loss.values
    assert losses.dtype == np.float64
    below = int(np.sum(losses[:, -1] < losses[:, 0]))
    with plots.style():
        figure, axes = plots.figure()
        plots.band(axes, np.arange(config.steps), losses, label="loss")
    claims = [
        Claim(
            "bowls-descent/down",
            "The loss goes down.",
            "TOY",
            *share(below, config.seeds),
            n=config.seeds,
            target=Target(">=", 0.3),
        ),
        Claim(
            "bowls-descent/zero",
            "The loss <reaches> zero & stays.",
            "TOY",
            *exact(losses[:, -1].min()),
            n=1,
            target=Target("<=", 0.0),
        ),
    ]
    table = [{"seed": seed, "last loss": f"{last:.3g}"} for seed, last in enumerate(losses[:, -1])]
    return Analysis(claims, {"loss-curves": figure}, {"last-losses": table})
