import dataclasses

import numpy as np
import pytest

from experiments.completion.hierarchy import config as hierarchy
from experiments.completion.hierarchy.instances import instances
from experiments.embedding.factorization import ledger, wide
from experiments.embedding.factorization.config import Config
from experiments.embedding.factorization.departures import Departures
from experiments.embedding.factorization.narrow import Narrow
from phenodl.completion.low_rank_fit import best_fit
from phenodl.data.matrices import Instances

pytestmark = pytest.mark.usefixtures("x64")


def best_points(family, width, moved=0.0):
    """The best fits by Levenberg-Marquardt on the factors, which is not how the experiment finds
    them, moved away from there by so much."""
    fit = best_fit(family.target, family.mask, width)
    left, values, right = np.linalg.svd(fit.matrix)
    root = np.sqrt(values[:, None, :width])
    left, right = left[:, :, :width] * root, root.swapaxes(1, 2) * right[:, :width]
    left = left + moved * np.random.default_rng(0).standard_normal(left.shape)
    loss = 0.5 * (np.where(family.mask, left @ right - family.target, 0) ** 2).sum((1, 2))
    return Narrow(
        left[:, None], right[:, None], (left @ right)[:, None], loss[:, None], fit.attained[:, None]
    )


def test_bad_configurations():
    for field, value in (("alphas", (0.2, 0.3)), ("alphas", (0.5,)), ("displacement", 1.0)):
        with pytest.raises(ValueError, match=f"{field} must be"):
            dataclasses.replace(Config(), **{field: value})


def test_embedded_best_fits_meet_the_claims_and_other_points_do_not():
    family = Instances(*(each[:8] for each in instances(hierarchy.Config(seed=1003, draws=1))))

    def judged(moved):
        points = {1: best_points(family, 1, moved)}
        embedded = wide.embedded(points, family, seed=0)
        claims = ledger.embedding_claims(embedded)
        return {claim.id.split("/")[1]: claim for claim in claims}, embedded[1]

    claims, embedded = judged(0.0)
    assert claims["critical"].verdict == claims["output"].verdict == "holds"
    assert claims["least-eigenvalue"].verdict == "holds"
    assert claims["inertia"].measured == claims["degeneracy"].measured == 1
    # One latent direction of eight numbers, of which A g, B / g moves one; three null units.
    np.testing.assert_array_equal(embedded.inertia[:, :2], [[[9, 7, 16]] * 2] * 8)
    claims, _ = judged(1e-3)
    assert claims["critical"].verdict == claims["degeneracy"].verdict == "fails"
    assert claims["output"].verdict == "holds"


@pytest.mark.parametrize("leaves", [True, False])
def test_splits_that_stay_are_seen(leaves):
    family = instances(hierarchy.Config(seed=1003, draws=1))
    config = Config(draws=1, alphas=(0.2, 0.5))
    points = {width: best_points(family, width) for width in (1, 2)}
    loss = np.stack([points[width].loss[:, 0] for width in (1, 2)])
    kinds = np.array([1, 0.1 if leaves else 0.9, 1])
    stacked = np.zeros((2, 3, 16, 8, 4))
    for width in (0, 1):
        for kind, rank in enumerate((width + 1, width + 2, width + 1)):
            stacked[width, kind, :, range(rank), range(rank)] = 1
    left = Departures(np.arange(1), (kinds[:, None] * loss[:, None])[..., None], stacked)
    stable = wide.Embedded(
        instance=np.arange(16),
        least=np.ones(16, bool),
        narrow=np.ones((16, 8)),
        **{
            field: np.zeros(16)
            for field in wide.Embedded._fields
            if field not in ("instance", "least", "narrow")
        },
    )
    claims = ledger.departure_claims(left, points, {1: stable, 2: stable}, config)
    measured = {claim.id.split("/")[1]: claim.measured for claim in claims}
    assert measured == {"omega-holds": 1, "splits-leave": leaves, "rank-conserved": 1}
