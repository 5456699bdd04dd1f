import jax
import jax.numpy as jnp
import numpy as np

from phenodl.completion import probes
from phenodl.models import factorization
from phenodl.protocol import Objective, View


def test_solution_and_stop_of_a_block_of_runs(x64):
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.standard_normal(shape)) for shape in [(4, 2, 3), (2, 5, 3)])
    mask = np.zeros((4, 5, 3), bool)
    mask[0, :2, 0] = mask[1, 2, 1] = mask[:, :, 2] = True
    # The residual is 0.1 wherever something is observed.
    target = np.einsum("ikr,kjr->ijr", a, b) - 0.1
    batch = {"target": jnp.asarray(target), "mask": jnp.asarray(mask)}
    factors = factorization.Factors(a, b)
    loss = factorization.squared_loss(factors, batch)
    zero = jnp.zeros(3)
    view = View(
        objective=Objective(lambda _: loss, loss, jax.tree.map(jnp.zeros_like, factors)),
        params=factors,
        method_state=(),
        update=factors,
        batch=batch,
        step=jnp.array(0),
        time=zero,
        hyper={},
    )
    probe = probes.solution()
    state, values = probe.measure((), view)
    assert state == ()
    np.testing.assert_allclose(values["W"], target + 0.1, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(values["mean_loss"], 0.005, rtol=1e-12)
    assert probes.fitted(0.0051)(view).all()
    assert not probes.fitted(0.0049)(view).any()
