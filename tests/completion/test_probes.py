import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.completion import probes
from phenodl.models import factorization
from phenodl.protocol import Objective, View


@pytest.fixture
def view(x64):
    """Of a block of three runs whose residual is 0.1 wherever something is observed."""
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.standard_normal(shape)) for shape in [(4, 2, 3), (2, 5, 3)])
    mask = np.zeros((4, 5, 3), bool)
    mask[0, :2, 0] = mask[1, 2, 1] = mask[:, :, 2] = True
    target = np.einsum("ikr,kjr->ijr", a, b) - 0.1
    batch = {"target": jnp.asarray(target), "mask": jnp.asarray(mask)}
    factors = factorization.Factors(a, b)
    loss = factorization.squared_loss(factors, batch)
    return View(
        objective=Objective(lambda _: loss, loss, jax.tree.map(jnp.zeros_like, factors)),
        params=factors,
        method_state=(),
        update=factors,
        batch=batch,
        step=jnp.array(0),
        time=jnp.zeros(3),
        hyper={},
    )


def test_solution_factors_and_stop_of_a_block_of_runs(view):
    state, values = probes.solution().measure((), view)
    assert state == ()
    expected = np.asarray(view.batch["target"]) + 0.1
    np.testing.assert_allclose(values["W"], expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(values["mean_loss"], 0.005, rtol=1e-12)

    _, values = probes.factors().measure((), view)
    assert values["A"] is view.params.A
    assert values["B"] is view.params.B
    np.testing.assert_allclose(values["mean_loss"], 0.005, rtol=1e-12)

    assert probes.fitted(0.0051)(view).all()
    assert not probes.fitted(0.0049)(view).any()


def test_solution_and_stop_by_a_product_and_a_loss_of_their_own(view):
    def loss(view):
        return view.time + 2.0

    _, values = probes.solution(factorization.stacked, loss).measure((), view)
    np.testing.assert_array_equal(values["W"][:4], view.params.A)
    np.testing.assert_array_equal(values["mean_loss"], 2)
    assert probes.fitted(2.0, loss)(view).all()
    assert not probes.fitted(1.9, loss)(view).any()
