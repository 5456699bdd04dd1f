"""Adam against gradient descent on θ^p / p, held against the rates of ``theory.py``."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from experiments.claims import Claim, Target, exact_claim
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from experiments.spikes.measurements import ADAM
from experiments.spikes.polynomial import figures, rates, theory
from experiments.spikes.polynomial.config import EXPERIMENT, Config
from experiments.spikes.polynomial.measure import coupling_probe, exhausted, moments_probe
from phenodl import probes, sweep, training
from phenodl.protocol import Layout, Method, Problem
from phenodl.sweep import Runs

NAME = EXPERIMENT.name
DEG = "DEG (arXiv 2603.09581)"
DERIVED = f"{DEG}; constants derived in theory.py"

PROBLEM = Problem(
    init=lambda key, data, hyper: jnp.ones(()),
    loss=lambda theta, batch: jnp.polyval(batch["coefficients"], theta),
)
MOMENTUM = training.from_optax(
    lambda hyper: optax.sgd(hyper["learning_rate"], momentum=hyper["b1"])
)
EPSILON = 1e-200
"""Adam's ε only has to keep 0/0 away: the derivation knows none."""


def runs_on(powers: Sequence[int], **axes: Any) -> Runs:
    """A sweep over θ^p / p, as coefficients of one polynomial: one program trains all powers."""
    coefficients = np.zeros((len(powers), max(powers) + 1))
    for row, power in zip(coefficients, powers, strict=True):
        row[-1 - power] = 1 / power
    return sweep.product(key=jax.random.key(0), power={"coefficients": coefficients}, **axes)


def train(config: Config, recorder: Recorder) -> None:
    """Long runs of Adam and of gradient descent, the fall of θ²/2, and the phase diagrams."""
    swept = {"learning_rate": config.learning_rate, "b1": config.b1}
    falling = {"learning_rate": config.fall_learning_rate, "b1": config.fall_b1}
    decays = 1 - np.geomspace(*config.diagram_forgetting, config.points)

    def record(name: str, method: Method, runs: Runs, steps: int, parts: int, **how: Any) -> None:
        # Every operation is on one number per run: wide blocks fill the vector units.
        layout = Layout(width=min(len(runs.id), 500))
        chunk = -(-steps // parts)
        recorder.train(name, PROBLEM, method, runs, steps=steps, chunk=chunk, layout=layout, **how)

    record(
        "adam",
        ADAM,
        runs_on(config.powers, **swept, b2=config.b2, eps=EPSILON),
        config.steps,
        parts=4,
        probes=[moments_probe(config.every)],
        stop=exhausted,
    )
    record(
        "descent",
        MOMENTUM,
        runs_on(config.powers, **swept),
        config.steps,
        parts=1,
        probes=[probes.loss(config.every)],
    )
    record(
        "fall",
        ADAM,
        runs_on([2], **falling, b2=config.fall_b2, eps=EPSILON),
        config.fall_steps,
        parts=1,
        probes=[moments_probe()],
    )
    record(
        "phase-diagram",
        ADAM,
        runs_on(
            config.powers,
            learning_rate=config.diagram_learning_rate,
            b1=decays,
            b2=decays,
            eps=EPSILON,
        ),
        config.diagram_steps,
        parts=4,
        probes=[coupling_probe()],
        stop=exhausted,
    )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Fitted rates and measured regimes beside the derived ones."""
    adams, descent, diagram = (
        results[name].assign_coords(power=list(config.powers))
        for name in ("adam", "descent", "phase-diagram")
    )
    found = rate_table(adams)
    powers = exponent_table(descent)
    falls = fall_table(results["fall"].isel(power=0))
    measured, derived = regimes(diagram)
    return Analysis(
        claims=[
            *rate_claims(found),
            *descent_claims(powers),
            *fall_claims(falls),
            *regime_claims(measured, derived),
        ],
        figures={
            "convergence": figures.convergence(adams, descent, config.shown),
            "moments": figures.moments(adams, config.shown),
            "phase-diagram": figures.phase_diagram(measured),
        },
        tables={"rates": found, "exponents": powers, "falls": falls},
    )


def rate_table(adams: xr.Dataset) -> list[dict[str, Any]]:
    """The fitted rates of every run that is stable by the derivation, over the derived ones."""
    rows = []
    for point, run in each_run(adams, "power", "learning_rate", "b1", "b2"):
        if theory.converges(point["power"], point["b1"], point["b2"]):
            rows.append(point | rates.adam_rates(point, **run)._asdict())
    return rows


def exponent_table(descent: xr.Dataset) -> list[dict[str, Any]]:
    """The exponents of the loss of gradient descent (β1 = 0) and momentum beyond p = 2."""
    rows = []
    for point, run in each_run(descent, "power", "learning_rate", "b1"):
        if point["power"] > 2:
            derived = theory.descent_exponent(point["power"])
            rows.append(point | {"measured": rates.exponent(**run), "derived": derived})
    return rows


def fall_table(runs: xr.Dataset) -> list[dict[str, Any]]:
    """The fall of ln θ on θ²/2 before its spike, measured and derived."""
    rows = []
    for point, run in each_run(runs, "learning_rate", "b1", "b2"):
        rows.append(point | rates.fall(point, run["gradient"], run["second_moment"])._asdict())
    return rows


def each_run(
    runs: xr.Dataset, *axes: str
) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """The place of each run on the axes of the sweep, and its records with their ``steps``."""
    (step,) = (str(name) for name in runs.dims if str(name).startswith("step"))
    records = {
        str(name): record.transpose(*axes, step).values
        for name, record in runs.items()
        if step in record.dims
    }
    for index in np.ndindex(*(runs.sizes[axis] for axis in axes)):
        point = {axis: runs[axis].values[i].item() for axis, i in zip(axes, index, strict=True)}
        run = {name: record[index] for name, record in records.items()}
        yield point, run | {"steps": runs[step].values}


def regimes(diagram: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """The regime of each point of the phase diagrams along power, b2, b1: measured and derived.

    What is measured is whether g² and v stay apart (stable), or part and come together again
    (spikes), or never part (swings); no rate is fitted here.
    """
    diagram = diagram.transpose("power", "b2", "b1")
    calm = diagram.coupled_at < diagram.attrs["total_steps"] / 2
    restless = xr.where(diagram.returns > 0, theory.SPIKES, theory.SWINGS)
    measured = xr.where(calm, theory.STABLE, restless)
    grid = diagram.b1.values, diagram.b2.values[:, None]
    derived = np.stack([theory.regime(int(power), *grid) for power in diagram.power])
    return measured, measured.copy(data=derived)


def rate_claims(found: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Claims about Adam beyond p = 2, wherever the derivation finds it stable."""
    worst = {
        name: max((_deviation(row[name], 1.0) for row in found), default=np.nan)
        for name in rates.Rates._fields
    }
    where = "largest relative error over all stable points (p, η, β1, β2)"
    statements = {
        "loss": "ln(loss) falls by p ln(1/β2) / (2(p - 2)) per step",
        "second_moment": "v decouples from g²: ln v falls by ln(1/β2) per step",
        "curvature": "The preconditioned curvature stands at the derived constant",
    }
    return [
        exact_claim(
            f"{NAME}/adam-{name.replace('_', '-')}",
            f"{statement}: {where}",
            DERIVED,
            worst[name],
            len(found),
            Target("<", 0.02),
        )
        for name, statement in statements.items()
    ]


def descent_claims(found: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Claims about gradient descent, without and with momentum."""
    claims = []
    for name, title, momentum in (
        ("gradient-descent", "gradient descent", False),
        ("momentum", "gradient descent with momentum", True),
    ):
        errors = [
            _deviation(row["measured"], row["derived"])
            for row in found
            if (row["b1"] > 0) == momentum
        ]
        claims.append(
            exact_claim(
                f"{NAME}/{name}",
                f"Under {title} the loss is a power law, t^(-p/(p-2)): largest relative error of "
                "the exponent over all p > 2",
                DERIVED,
                max(errors, default=np.nan),
                len(errors),
                Target("<", 0.02),
            )
        )
    return claims


def fall_claims(found: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """The claim about p = 2, where θ falls the faster the further v has decayed."""
    errors = [_deviation(row["measured"], row["derived"]) for row in found]
    return [
        exact_claim(
            f"{NAME}/fall",
            "On θ²/2, from decoupling to the spike, ln θ falls by the integral over the growing "
            "step: largest relative error",
            "derived in quadratic/theory.py",
            max(errors, default=np.nan),
            len(errors),
            Target("<", 0.05),
        )
    ]


def regime_claims(measured: xr.DataArray, derived: xr.DataArray) -> list[Claim]:
    """Claims about the phase diagrams: a fixed grid, of which shares are exact."""
    degenerate = measured.power > 2
    apart = measured == theory.STABLE
    as_derived = apart == (derived == theory.STABLE)
    return [
        _share_of_grid(
            "stable",
            "Over the second half of a run g² stays below a tenth of v where the derivation finds "
            "decoupled motion stable and nowhere else: share of the points (p > 2, β1, β2)",
            DERIVED,
            as_derived.sel(power=degenerate),
            Target(">=", 0.95),
        ),
        _share_of_grid(
            "quadratic",
            "On θ²/2 g² exceeds a tenth of v in the second half of a run whatever (β1, β2): share "
            "of the points",
            "derived in theory.py",
            ~apart.sel(power=~degenerate),
            Target(">=", 0.99),
        ),
        _share_of_grid(
            "regimes",
            "g² stays apart from v, parts and rejoins it, or never parts from it where linear "
            "convergence, spikes or swings are derived: share of the points",
            DERIVED,
            measured == derived,
            Target(">=", 0.9),
        ),
    ]


def _share_of_grid(
    key: str, statement: str, source: str, met: xr.DataArray, target: Target
) -> Claim:
    share = float(met.mean()) if met.size else np.nan
    return exact_claim(f"{NAME}/{key}", statement, source, share, met.size, target)


def _deviation(measured: float, derived: float) -> float:
    """The relative error; infinite where nothing could be measured, so that a claim fails."""
    error = abs(measured / derived - 1)
    return error if np.isfinite(error) else np.inf
