import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments.claims import Claim
from experiments.embedding.width import figures, ledger
from experiments.embedding.width.chunks import in_chunks
from experiments.embedding.width.config import Config
from experiments.embedding.width.embeddings import CONTROL
from experiments.embedding.width.families import Family
from experiments.embedding.width.outcome import (
    curves,
    of_each_point,
    raised_by_equal_splits,
    survey,
)
from experiments.embedding.width.planted import plant
from phenodl.models import mlp

INPUTS = np.linspace(-1, 1, 30)[None]


@pytest.fixture(scope="module")
def family():
    with jax.enable_x64(True):
        params, targets = plant((1, 2, 1), INPUTS, np.geomspace(1e-2, 1, 8), seed=3)
        yield Family("planted", INPUTS, (2,), (4,), params, targets)


@pytest.fixture(scope="module")
def measured(family):
    with jax.enable_x64(True):
        return survey([family], draws=2, seed=0)


def numpy_network(params, point):
    weight, bias = (np.asarray(params["layer_0"][name][point]) for name in ("weight", "bias"))
    hidden = np.tanh(weight @ INPUTS + bias[:, None])
    last = params["layer_1"]
    return hidden, np.asarray(last["weight"][point]) @ hidden + np.asarray(last["bias"][point])


def test_a_planted_point_is_critical_and_has_its_loss(family):
    for point, residual in enumerate(np.geomspace(1e-2, 1, 8)):
        hidden, output = numpy_network(family.params, point)
        error = output - family.targets[point]
        np.testing.assert_allclose((error**2).mean(), residual**2, rtol=1e-10)
        outgoing = np.asarray(family.params["layer_1"]["weight"][point])
        back = outgoing.T * error * (1 - hidden**2)
        for slope in (error.sum(), hidden @ error[0], back.sum(1), back @ INPUTS[0]):
            np.testing.assert_allclose(slope, 0, atol=1e-12)


def test_planting_needs_more_data_than_parameters(x64):
    with pytest.raises(ValueError, match=r"^inputs: expected more than 7 outputs"):
        plant((1, 2, 1), INPUTS[:, :7], np.ones(1), seed=0)


def test_inertia_of_narrow_points_is_that_of_the_dense_hessian(x64, family, measured):
    narrow, _ = measured
    assert len(np.unique(narrow.signs[:, 0])) >= 2  # minima and saddles
    for point in range(len(family)):
        flat, unravel = ravel_pytree(jax.tree.map(lambda leaf, at=point: leaf[at], family.params))
        targets = jnp.asarray(family.targets[point])

        def slope(flat, unravel=unravel, targets=targets):
            outputs = mlp.apply(unravel(flat), jnp.asarray(INPUTS))
            return jnp.mean((outputs - targets) ** 2)

        if point in (0, 7):
            gradient, step = jax.jit(jax.grad(slope)), 1e-5
            ends = [
                [np.asarray(gradient(flat.at[at].add(sign * step))) for sign in (1, -1)]
                for at in range(len(flat))
            ]
            hessian = np.array([(up - down) / (2 * step) for up, down in ends])
            values = np.linalg.eigvalsh((hessian + hessian.T) / 2)
            assert (values < -1e-8).sum() == narrow.signs[point, 0]
        assert narrow.signs[point].sum() == len(flat) == 7


def test_embeddings_preserve_and_the_control_does_not(measured):
    narrow, rows = measured
    embedded = rows.take(rows.kind != CONTROL)
    assert set(embedded.kind) == {"split", "null", "compatible", "composed"}
    assert len(embedded.kind) == 8 * 2 * 4
    assert embedded.output.max() <= 1e-13
    assert embedded.grad_norm.max() <= 1e-12
    added = embedded.wide.sum(1) - embedded.narrow.sum(1)
    units = {"split": 1, "null": 1, "compatible": 2, "composed": 2}
    assert added.tolist() == [3 * units[kind] for kind in embedded.kind]
    claims = [*ledger.preservation(embedded), *ledger.degeneracy(embedded, narrow)]
    assert all(claim.measured == 1 for claim in claims if claim.id.endswith(("inertia", "null")))
    control = rows.take(rows.kind == CONTROL)
    assert control.output.max() <= 1e-13
    assert np.median(control.grad_norm) > 1e-6
    assert isinstance(ledger.control(control, narrow), Claim)


def test_splits_along_alpha_change_sign_at_0_and_1_only(x64, family, measured, tmp_path):
    narrow, rows = measured
    along = curves([family], narrow, 13)
    assert along.negative.shape == along.predicted.shape == (2 * narrow.minimum.sum(), 13)
    inside = (along.alpha > 0) & (along.alpha < 1)
    clear = along.clear
    assert clear.sum() == 11
    np.testing.assert_array_equal(along.negative[:, clear], along.predicted[:, clear])
    for raised in along.negative[:, clear]:
        within, outside = raised[inside[clear]], raised[~inside[clear]]
        assert len(set(within)) == len(set(outside)) == 1
        assert within[0] + outside[0] == 2  # the negative ones of a 2 x 2 matrix S, and of -S
    assert (along.negative[:, ~clear] == 0).all()
    equal = raised_by_equal_splits(family, narrow.minimum)
    at_half = along.negative[:, 6].reshape(-1, 2)
    np.testing.assert_array_equal(equal[:, 0], 0)
    np.testing.assert_array_equal(equal[:, 1], at_half[:, 0])
    np.testing.assert_array_equal(equal[:, 2], at_half.sum(1))
    assert len(ledger.saddles(rows.take(rows.kind != CONTROL), along, equal)) == 4
    for number, figure in enumerate(
        (
            figures.deviations(rows),
            figures.inertia(rows),
            figures.alpha(along),
        )
    ):
        figure.savefig(tmp_path / f"{number}.png")


def test_a_point_stands_or_falls_with_all_of_its_rows():
    met = of_each_point(np.array([True, False, True, True]), np.array([4, 4, 9, 9]))
    assert met.tolist() == [False, True]


def test_chunks_are_filled_up_and_cut():
    sizes = []

    def double(x):
        sizes.append(len(x))
        return {"twice": 2 * x}

    assert in_chunks(double, 4, np.arange(6))["twice"].tolist() == [0, 2, 4, 6, 8, 10]
    assert sizes == [4, 4]


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", -1), ("staircases", 0), ("planted", 0), ("draws", 0), ("alphas", 3)],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(Config(), **{field: value})
