import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.embedding import escape
from phenodl.protocol import Problem

EIGENVALUES = np.array([[-0.02, 0.0, 1.0, 3.0], [-5.0, -1.0, 0.0, 2.0], [-0.5, 0.1, 0.2, 0.3]])


def bent(x, data):
    """A quadratic saddle at (1, 2, 3, 4), with a quartic that stops the fall."""
    moved = x - jnp.arange(1.0, 5.0)
    return moved @ data["matrix"] @ moved / 2 + jnp.sum(moved**4)


@pytest.fixture(scope="module")
def saddles():
    with jax.enable_x64(True):
        random = np.random.default_rng(0).standard_normal((3, 4, 4))
        bases = np.linalg.qr(random)[0]
        matrices = jnp.asarray(bases @ (EIGENVALUES[:, :, None] * bases.transpose(0, 2, 1)))
        at = jax.jit(jax.vmap(lambda m: escape.saddle(lambda x: bent(x, {"matrix": m}), place())))
        return bases, np.asarray(matrices), jax.tree.map(np.asarray, at(matrices))


def place():
    return jnp.arange(1.0, 5.0)


def test_saddles_know_their_spectrum(saddles):
    bases, _, at = saddles
    np.testing.assert_allclose(at.eigenvalue, EIGENVALUES[:, 0], rtol=1e-10)
    np.testing.assert_allclose(at.sharpness, np.abs(EIGENVALUES).max(axis=1), rtol=1e-10)
    np.testing.assert_allclose(np.abs((at.direction * bases[:, :, 0]).sum(axis=1)), 1, rtol=1e-10)


def test_starts_lie_at_their_distance(saddles, x64):
    *_, at = saddles
    keys = jax.random.split(jax.random.key(0), 3)
    for starts in (
        jax.vmap(lambda at: escape.displaced(at, 1e-3))(at),
        jax.vmap(lambda at, key: escape.displaced(at, 1e-3, key))(at, keys),
    ):
        np.testing.assert_allclose(np.linalg.norm(starts - at.params, axis=1), 1e-3, rtol=1e-10)


def test_flows_leave_at_the_lowest_eigenvalue(saddles, x64):
    _, matrices, at = saddles
    keys = jax.random.split(jax.random.key(0), 3)
    random = jax.vmap(lambda at, key: escape.displaced(at, 1e-8, key))(at, keys)
    both = jax.tree.map(lambda a: jnp.concatenate([a, a]), (at, matrices))
    starts = jnp.concatenate([jax.vmap(lambda at: escape.displaced(at, 1e-6))(at), random])
    flows = escape.escape(
        Problem(lambda *_: (), bent), both[0], starts, data={"matrix": both[1]}, steps=1500
    )
    along, rolled = np.split(escape.rate(flows.time, flows.distance, (1e-6, 1e-3)), 2)
    np.testing.assert_allclose(along, -EIGENVALUES[:, 0], rtol=1e-3)
    np.testing.assert_allclose(rolled, -EIGENVALUES[:, 0], rtol=1e-2)
    # The part along the lowest eigenvector grows at its rate from the very start.
    own = escape.rate(flows.time, flows.along, (1e-9, 1e-3))
    np.testing.assert_allclose(own, np.tile(-EIGENVALUES[:, 0], 2), rtol=1e-3)


def test_the_rate_is_that_of_a_line_through_the_window():
    random = np.random.default_rng(0)
    time = np.sort(random.uniform(0, 30, (2, 40)))
    size = 1e-6 * np.exp(0.4 * time + 0.05 * random.standard_normal((2, 40)))
    size[:, -3:] = np.nan
    inside = (size >= 1e-5) & (size <= 1e-2)
    expected = [
        np.polyfit(t[here], np.log(s[here]), 1)[0]
        for t, s, here in zip(time, size, inside, strict=True)
    ]
    np.testing.assert_allclose(escape.rate(time, size, (1e-5, 1e-2)), expected, rtol=1e-10)
    assert np.isnan(escape.rate(time, size, (1e-30, 1e-29))).all()


def test_single_precision_is_refused():
    at = escape.Saddle(jnp.zeros(2), jnp.array(-1.0), jnp.ones(2), jnp.array(1.0), jnp.array(0.0))
    with pytest.raises(ValueError, match="double precision"):
        escape.escape(Problem(lambda *_: (), bent), at, jnp.zeros(2))


def test_no_flow_starts_at_a_point_that_is_not_a_critical_one_or_not_a_saddle(saddles, x64):
    _, matrices, at = saddles
    problem, data = Problem(lambda *_: (), bent), {"matrix": matrices}
    sloping = at._replace(grad_norm=np.array([0.0, 1e-3, 0.0]))
    with pytest.raises(ValueError, match=r"gradient norm at most 1e-12, got 0\.001"):
        escape.escape(problem, sloping, at.params, data=data)
    minimum = at._replace(eigenvalue=np.array([-1.0, 0.5, -1.0]))
    with pytest.raises(ValueError, match=r"^saddles: expected a lowest eigenvalue below 0"):
        escape.escape(problem, minimum, at.params, data=data)


def test_saddles_know_their_gradient(x64):
    at = jax.jit(lambda x: escape.saddle(lambda x: x @ x - 3 * x[0] ** 2, x))(jnp.array([3.0, 4.0]))
    np.testing.assert_allclose(at.grad_norm, np.hypot(12, 8), rtol=1e-12)
