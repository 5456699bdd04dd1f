import dataclasses

import numpy as np
import pytest
from recorders import InMemory
from sklearn import datasets

from experiments.embedding.digits import measure, run
from experiments.embedding.digits.config import EXPERIMENT, Config

SMALL = Config(first_seed=3, seeds=2, images=50, width=6, steps=40)


def copies():
    """Two units, each three times with different norms, as one run of six units."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2, 65))
    scale = np.array([1.0, 2.0, 0.5, 3.0, 1.0, 1.5])[:, None]
    wide = scale * rows[[0, 0, 0, 1, 1, 1]]
    outward = rng.uniform(0.5, 1.0, (1, 6)) * np.array([1, 1, 1, -1, -1, -1])
    first = {"weight": wide[None, :, :-1], "bias": wide[None, :, -1]}
    return {"layer_0": first, "layer_1": {"weight": outward[None], "bias": np.zeros((1, 1))}}


def test_targets_are_the_parity_of_the_digits():
    _, classes = datasets.load_digits(return_X_y=True)
    even = np.asarray(classes) % 2 == 0
    np.testing.assert_array_equal(measure.task().targets[0], np.where(even, 1, -1))


def test_a_condensed_network_is_reduced_without_a_change(x64):
    reduced = measure.by_angle(copies(), images=100, angle=0.1)
    assert reduced.units.tolist() == [2]
    assert reduced.trained_on[0] == reduced.held_out[0] == 1
    whole = measure.compare(copies(), [measure.run_params(copies(), 0)], images=100)
    np.testing.assert_allclose(reduced.loss, whole.loss, rtol=1e-10)
    assert measure.random_units(copies(), 100, np.array([2])).units.tolist() == [2]


def test_the_cosines_of_copies_are_one():
    matrix = measure.cosines(measure.run_params(copies(), 0))
    np.testing.assert_allclose(matrix[:3, :3], 1, rtol=1e-12)
    assert np.abs(matrix[:3, 3:]).max() < 0.9


def test_claims_and_figures_of_a_small_run(x64, tmp_path):
    recorder = InMemory()
    run.train(SMALL, recorder)
    trained = recorder.results["starts"]
    start = trained.layer_0_weight.values[:, 0, 0]
    assert np.abs(start).max() < 1e-5
    assert np.abs(trained.layer_0_weight.values[:, 1, 0]).max() > 0.1
    analysis = run.analyze(SMALL, recorder.results)
    claims = {claim.id.removeprefix(f"{EXPERIMENT.name}/"): claim for claim in analysis.claims}
    assert claims["units"].n == SMALL.seeds
    rows = {row["network"]: row for row in analysis.tables["reductions"]}
    wide = rows["condensing start"]
    assert wide["units, median"] == SMALL.width
    assert wide["equal predictions, held out"] == 1
    losses = trained.loss.values[:, 0, -1]
    assert wide["loss, trained on"] == pytest.approx(np.median(losses), rel=1e-9)
    for name, figure in analysis.figures.items():
        figure.savefig(tmp_path / f"{name}.png")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("first_seed", -1),
        ("seeds", 0),
        ("images", 1797),
        ("width", 1),
        ("init_std", 0.0),
        ("momentum", 1.0),
        ("steps", 19),
        ("angle", 0.0),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(SMALL, **{field: value})
