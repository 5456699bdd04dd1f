"""Spikes of a network with several layers: which layers are held, and what is claimed of it."""

import numpy as np
import pytest
import xarray as xr
from recorders import InMemory

from experiments.config import Adam
from experiments.spikes.layers import figures, run
from experiments.spikes.layers.arms import ARMS, Spike, chosen_spike
from experiments.spikes.layers.config import Config

# A memory this short brings the first spikes within a few hundred steps.
QUICK = Config(
    seeds=2,
    first_seed=1000,
    hidden=(8, 8),
    steps=400,
    optimizer=Adam(learning_rate=0.05, b2=0.98),
    rise=0.1,
    products=4,
    every=5,
)


@pytest.fixture(scope="module")
def trained():
    recorder = InMemory()
    run.train(QUICK, recorder)
    return recorder.results


def made_up(seeds=24, agree=False):
    """Spikes whose eigenvector lies in the second layer; the third, or that one, decouples first.

    Some seeds have no spike.
    """
    trough = np.where(np.arange(seeds) % 8 == 7, -1, 100)
    onset = np.tile([130, 120, 110], (seeds, 1))
    if agree:
        onset[:, 1] = 101
    return Spike(
        trough=trough,
        crossing=np.where(trough < 0, -1, 180),
        trigger=np.where(trough < 0, -1, 200),
        mass=np.tile([0.1, 0.7, 0.2], (seeds, 1)),
        onset=onset,
    )


def test_arms_equal_their_control_until_they_part(trained):
    control = trained["control"].isel(arm=0)
    spike = chosen_spike(QUICK, control)
    assert (spike.trough >= 0).any()
    losses = trained["arms"].loss.transpose("arm", "seed", "step").values
    same = control.loss.transpose("seed", "step").values
    for seed in np.flatnonzero(spike.trough >= 0):
        until = spike.trough[seed] + 2  # D_s differs first, and θ one step later
        np.testing.assert_array_equal(
            losses[:, seed, :until], np.tile(same[seed, :until], (len(ARMS) - 1, 1))
        )
        assert (losses[:, seed, until:] != same[seed, until:]).any(axis=1).all()


def test_the_eigenvector_is_spread_over_the_layers(trained):
    mass = trained["control"]["mass"].isel(arm=0).transpose("seed", ..., "mass_0").values
    assert mass.shape[-1] == len(run.layer_names(QUICK)) == 3
    np.testing.assert_allclose(mass.sum(axis=-1), 1, rtol=1e-4)


def test_the_analysis_claims_and_draws(trained):
    analysis = run.analyze(QUICK, trained)
    assert len(analysis.tables["arms"]) == len(ARMS)
    for figure in analysis.figures.values():
        figure.draw_without_rendering()


def test_each_pair_of_arms_holds_all_layers_between_them():
    frozen = made_up().frozen()
    assert frozen[0].sum() == 0
    for one, rest in ((1, 2), (3, 4)):
        assert (frozen[one] ^ frozen[rest]).all()
    assert frozen[1, 0].tolist() == [False, True, False]
    assert frozen[3, 0].tolist() == [False, False, True]


def test_a_layer_that_never_decouples_is_not_the_earliest():
    spike = made_up()
    never = spike._replace(onset=np.tile([-1, 120, 110], (24, 1)))
    assert not never.frozen()[3][:, 0].any()


def test_claims_follow_what_the_arms_did():
    spike = made_up()
    # With v̂ kept where the eigenvector lies there is no spike, whoever decouples first.
    seen = np.array([True, False, True, True, False])[:, None] & (spike.trough >= 0)
    claims = {claim.id.split("/")[1]: claim for claim in run.claims(spike, seen)}
    assert claims["spikes"].measured == pytest.approx(21 / 24)
    assert claims["concentrated"].measured == pytest.approx(0.7)
    assert claims["first-is-heaviest"].verdict == "fails"
    assert claims["heaviest"].verdict == claims["others"].verdict == "holds"
    assert claims["earliest"].verdict == "fails"

    agreeing = made_up(agree=True)
    swapped = {claim.id.split("/")[1]: claim for claim in run.claims(agreeing, ~seen)}
    assert swapped["first-is-heaviest"].verdict == "holds"
    assert swapped["heaviest"].verdict == swapped["others"].verdict == "fails"


def test_runs_without_spikes_determine_nothing():
    none = made_up()._replace(trough=np.full(24, -1))
    claims = {claim.id.split("/")[1]: claim for claim in run.claims(none, np.zeros((5, 24), bool))}
    for name in ("concentrated", "first-is-heaviest", "heaviest", "others", "earliest"):
        assert claims[name].verdict == "undetermined"
    losses = xr.DataArray(np.ones((5, 24, 400)), dims=("arm", "seed", "step"))
    runs = xr.Dataset({"loss": losses, "threshold": losses, "lambda_max_adam": losses})
    figures.arms(runs, none).draw_without_rendering()


@pytest.mark.parametrize(
    ("field", "value"),
    [("seeds", 0), ("hidden", ()), ("hidden", (20, 0)), ("steps", 99), ("lasting", 0)],
)
def test_bad_configurations_name_their_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Config(**{field: value})
