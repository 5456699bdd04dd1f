"""The claims of ``spikes-quadratic``."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Bool

from experiments.claims import Claim, Target, bootstrap_claim, exact_claim, share_claim
from experiments.spikes.measurements import SPIKE
from experiments.spikes.quadratic.config import EXPERIMENT
from experiments.spikes.quadratic.spikes import SLOW
from experiments.spikes.quadratic.stages import Stages

NAME = EXPERIMENT.name
DERIVED = "derived in quadratic/theory.py"

Rows = Sequence[Mapping[str, float]]


def trajectory_claims(
    found: Mapping[float, Stages],
    b1: float,
    control_b2: float,
    control: Stages,
    descent: xr.Dataset,
) -> list[Claim]:
    """Claims about the stages of a spike, and about two trajectories without one."""
    spiking = {b2: stage for b2, stage in found.items() if min(stage[:4]) >= 0}
    # Any v would meet the bound that the window sets; a tenth of it takes a g² that keeps falling.
    errors = [
        abs(stage.decay - b2) / (1 - b2)
        for b2, stage in spiking.items()
        if 1 - b2 <= SLOW * (1 - b1)
    ]
    delays = [abs(stage.peak - stage.back) for stage in spiking.values()]
    return [
        exact_claim(
            f"{NAME}/decay",
            "Before the crossing v decays by the factor β2 per step: largest error in units of "
            f"1 - β2 where 1 - β2 ≤ {SLOW:g} (1 - β1); the fit, where g² < v/1000, bounds it by "
            "0.001",
            f"{SPIKE}, decay of the preconditioner",
            _largest(errors),
            len(errors),
            Target("<", 1e-4),
        ),
        exact_claim(
            f"{NAME}/peak",
            "The loss peaks as the curvature returns below 2/η: steps between the two, at most",
            f"{SPIKE}, growth of the preconditioner",
            max(delays, default=np.nan),
            len(delays),
            Target("<=", 2),
        ),
        exact_claim(
            f"{NAME}/control",
            f"At β2 = {control_b2:g} the curvature never crosses and the loss never spikes: "
            "crossings and spikes",
            SPIKE,
            (control.crossing >= 0) + (control.trigger >= 0),
            1,
            Target("<=", 0),
        ),
        exact_claim(
            f"{NAME}/gradient-descent",
            "At the same η the loss of gradient descent never increases: steps on which it does",
            SPIKE,
            (np.diff(descent.loss.values) > 0).sum(),
            descent.loss.size - 1,
            Target("<=", 0),
        ),
    ]


def crossing_claims(rows: Rows) -> list[Claim]:
    """Claims about when the curvature crosses 2/η, over β1, ε and λ."""
    derived, measured = (np.array([row[key] for row in rows]) for key in ("derived", "measured"))
    never = np.isinf(derived) & np.isinf(measured)
    errors = np.abs(np.where(never, 0, measured) - np.where(never, 0, derived))
    return [
        exact_claim(
            f"{NAME}/crossing-step",
            "After decoupling the curvature crosses 2/η at the derived step for every β1, ε and "
            f"eigenvalue, and in {np.isinf(derived).sum()} of the runs, with ε ≥ ηfλ/2, never: "
            "largest error in steps",
            DERIVED,
            _largest(errors),
            len(errors),
            Target("<=", 1),
        ),
        _together(rows),
    ]


def _together(rows: Rows) -> Claim:
    smallest = min(row["eps"] for row in rows)
    spectrum = [row for row in rows if row["eps"] == smallest]
    steps = np.array([row["measured"] for row in spectrum])
    spread = np.ptp(steps) if np.isfinite(steps).all() else np.inf
    return exact_claim(
        f"{NAME}/spectrum",
        "Without ε all eigenvalues along the axes cross 2/η at once: steps between the first and "
        "the last",
        DERIVED,
        float(spread),
        len(steps),
        Target("<=", 1),
    )


def spike_claims(rows: Rows) -> list[Claim]:
    """Claims about overshoot and ring-down, where the step grows slowly."""
    slow = [row for row in rows if 1 - row["b2"] <= SLOW * (1 - row["b1"])]
    errors = [abs(row["overshoot"] / row["derived"] - 1) for row in slow]
    swinging = [row for row in slow if row["b1"] > 0]
    rates = [abs(np.log(row["ring_down"]) / np.log(row["b1"]) - 1) for row in swinging]
    where = f"largest relative error where 1 - β2 ≤ {SLOW:g} (1 - β1)"
    return [
        exact_claim(
            f"{NAME}/overshoot",
            f"During a spike the curvature reaches the derived multiple of 2/η: {where}",
            DERIVED,
            _largest(errors),
            len(errors),
            Target("<", 0.05),
        ),
        exact_claim(
            f"{NAME}/ring-down",
            f"After the peak the swinging loss shrinks by the factor β1 per step: {where}, of the "
            "exponent",
            DERIVED,
            _largest(rates),
            len(rates),
            Target("<", 0.2),
        ),
    ]


def trigger_claims(rows: Rows) -> list[Claim]:
    """Claims about the window of the detector; nothing is known of one without any trigger."""
    widest = max(row["window"] for row in rows)
    windowed = [row for row in rows if row["window"] == widest]
    bare = [row for row in rows if row["window"] < widest]
    triggers, bare_triggers = _total(windowed, "triggers"), _total(bare, "triggers")
    return [
        exact_claim(
            f"{NAME}/window",
            "Looking back on 2/(1 - β1) steps, the detector triggers at no swing: triggers far "
            "from a crossing",
            DERIVED,
            _total(windowed, "false") if triggers else np.nan,
            triggers,
            Target("<=", 0),
        ),
        exact_claim(
            f"{NAME}/no-window",
            "Looking back on two steps, most of its triggers are swings: share of them far from a "
            "crossing",
            DERIVED,
            _total(bare, "false") / bare_triggers if bare_triggers else np.nan,
            bare_triggers,
            Target(">", 0.5),
        ),
    ]


def rotation_claims(rows: Rows) -> list[Claim]:
    """Claims about quadratics whose eigenvectors are not the axes."""
    crossing, trigger, alignment = (
        np.array([row[key] for row in rows]) for key in ("crossing", "trigger", "alignment")
    )
    return [
        share_claim(
            f"{NAME}/rotated-crossing",
            "On a rotated quadratic λ_max(Ĥ) crosses 2/η before the loss spikes: share of the "
            "rotations",
            SPIKE,
            (crossing >= 0) & (crossing < trigger),
            Target(">=", 0.75),
        ),
        bootstrap_claim(
            f"{NAME}/rotated-direction",
            "The spike goes along the eigenvector of λ_max(Ĥ) at the crossing: median |cos| of the "
            "update into the peak",
            SPIKE,
            alignment,
            Target(">=", 0.95),
        ),
    ]


def diagram_claims(diagram: xr.Dataset) -> list[Claim]:
    """Claims about all points of the phase diagrams: a fixed grid, of which shares are exact."""
    diagram = diagram.transpose("b1", "b2", "learning_rate")
    spiked = (diagram.first_spike >= 0).values
    crossing, spike = diagram.first_crossing.values, diagram.first_spike.values
    silent = crossing < 0
    b1, b2 = xr.broadcast(diagram.b1, diagram.b2)
    size = np.sqrt(2 * diagram.level.values) / diagram.learning_rate.values
    with np.errstate(divide="ignore"):
        spread = np.ptp(np.log10(size), axis=2)
    return [
        _share_of_grid(
            "crossing-precedes-spike",
            "A spike of two decades or more comes after the curvature has crossed 2/η: share of "
            "the spiking points of the grid",
            SPIKE,
            (~silent & (crossing <= spike))[spiked],
            Target(">=", 0.99),
        ),
        _share_of_grid(
            "no-crossing-below-b1",
            "The curvature never crosses 2/η where β2 < β1: share of these points of the grid",
            "derived: v then decays no slower than the swinging gradient",
            silent[(b2 < b1).values],
            Target(">=", 0.99),
        ),
        _share_of_grid(
            "small-b2",
            "Where β2 < β1 θ swings on, by the same multiple of η for every η: share of the "
            "(β1, β2) at which it varies by less than a factor of 2",
            DERIVED,
            spread[(b2 < b1).values] < np.log10(2),
            Target(">=", 0.9),
        ),
    ]


def _share_of_grid(
    key: str, statement: str, source: str, met: Bool[np.ndarray, "..."], target: Target
) -> Claim:
    share = float(met.mean()) if met.size else np.nan
    return exact_claim(f"{NAME}/{key}", statement, source, share, met.size, target)


def _largest(errors: Sequence[float] | np.ndarray) -> float:
    """The largest error, infinite if one could not be measured; NaN without any."""
    worst = np.max(errors) if len(errors) else np.nan
    return float(np.inf if len(errors) and np.isnan(worst) else worst)


def _total(rows: Rows, column: str) -> int:
    return sum(int(row[column]) for row in rows)
