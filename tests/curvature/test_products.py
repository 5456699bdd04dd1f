import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import network, positive

from phenodl.curvature import bilinear_form, linearize, quadratic_form

ENTRIES = st.lists(st.floats(-3, 3, width=32), min_size=4, max_size=4)


def test_tridiagonal_quartic_has_the_hessian_worked_out_by_hand():
    """L = sum x_i^4 / 12 + sum x_i x_{i+1} has the diagonal x_i^2 and ones beside it."""

    def loss(x):
        return (x**4).sum() / 12 + (x[1:] * x[:-1]).sum()

    @jax.jit
    def measure(x, u, v):
        value, grads, hvp = linearize(loss, x)
        return value, grads, hvp(v), bilinear_form(loss, x, u, v), quadratic_form(loss, x, v)

    @settings(deadline=None, max_examples=50)
    @given(ENTRIES, ENTRIES, ENTRIES)
    def check(x, u, v):
        x, u, v = (np.array(a, np.float32) for a in (x, u, v))
        hessian = np.diag(x**2) + np.eye(4, k=1) + np.eye(4, k=-1)
        gradient = x**3 / 3 + np.append(x[1:], 0) + np.append(0, x[:-1])
        value, grads, product, bilinear, quadratic = measure(x, u, v)
        expected = loss(x), gradient @ v, v @ hessian @ v
        np.testing.assert_allclose(value, loss(x), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(grads, gradient, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(product, hessian @ v, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(bilinear, u @ hessian @ v, rtol=1e-5, atol=2e-4)
        np.testing.assert_allclose(quadratic, expected, rtol=1e-5, atol=2e-4)

    check()


@pytest.mark.usefixtures("x64")
def test_forms_on_a_network_equal_finite_differences_of_the_loss():
    params, loss = network(0, np.float64)
    u, v = positive(1, params), positive(2, params)
    h = 1e-4

    @jax.jit
    def measure(params, u, v):
        at = lambda a, b: loss(jax.tree.map(lambda p, u, v: p + a * u + b * v, params, u, v))
        slope = (at(0, h) - at(0, -h)) / (2 * h)
        second = (at(0, h) - 2 * at(0, 0.0) + at(0, -h)) / h**2
        mixed = (at(h, h) - at(h, -h) - at(-h, h) + at(-h, -h)) / (4 * h**2)
        forms = *quadratic_form(loss, params, v), bilinear_form(loss, params, u, v)
        return jnp.stack(forms), jnp.stack([at(0.0, 0.0), slope, second, mixed])

    forms, differences = measure(params, u, v)
    np.testing.assert_allclose(forms, differences, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_forms_agree_with_products_under_vmap():
    params, loss = network(3, np.float64)
    tangents = jax.tree.map(lambda *rows: jnp.stack(rows), *(positive(i, params) for i in (4, 5)))

    @jax.jit
    def measure(params, tangents):
        value, grads, hvp = linearize(loss, params)

        def one(tangent):
            image = hvp(tangent)
            inner = lambda a, b: sum(
                jax.tree.leaves(jax.tree.map(lambda x, y: (x * y).sum(), a, b))
            )
            return jnp.stack(quadratic_form(loss, params, tangent)), jnp.stack(
                [value, inner(grads, tangent), inner(image, tangent)]
            )

        return jax.vmap(one)(tangents)

    forms, products = measure(params, tangents)
    np.testing.assert_allclose(forms, products, rtol=1e-12)


def test_gradient_is_the_one_of_value_and_grad_bit_for_bit():
    params, loss = network(6, np.float32)

    @jax.jit
    def measure(params):
        return linearize(loss, params)[:2], jax.value_and_grad(loss)(params)

    ours, plain = measure(params)
    jax.tree.map(np.testing.assert_array_equal, ours, plain)


def softplus_with_a_backward_rule_of_its_own(backward):
    softplus = jax.custom_vjp(lambda x: jnp.logaddexp(x, 0.0))
    softplus.defvjp(lambda x: (jnp.logaddexp(x, 0.0), x), backward)
    return lambda x: softplus(x).sum()


def sigmoid_on_the_host(x, cotangent):
    sigmoid = jax.pure_callback(lambda x: 1 / (1 + np.exp(-x)), x, x)
    return (cotangent * sigmoid,)


def test_a_loss_without_a_forward_derivative_is_named():
    loss = softplus_with_a_backward_rule_of_its_own(lambda x, cotangent: (cotangent,))
    x = jnp.ones(3)
    said = r"no forward derivative: it calls <lambda> at .*test_products.py:\d+, a jax.custom_vjp"
    for form in (bilinear_form, lambda *args: quadratic_form(*args[:3])):
        with pytest.raises(ValueError, match=said):
            jax.jit(lambda x, form=form: form(loss, x, x, x))(x)


def test_where_there_is_no_forward_derivative_there_may_be_a_product():
    def sigmoid_again(x, cotangent):
        return (cotangent * jax.nn.sigmoid(x),)

    loss = softplus_with_a_backward_rule_of_its_own(sigmoid_again)
    x = jnp.array([-1.0, 0.5, 2.0])
    product = jax.jit(lambda x: linearize(loss, x)[2](x))(x)
    sigmoid = 1 / (1 + np.exp(-np.asarray(x)))
    np.testing.assert_allclose(product, sigmoid * (1 - sigmoid) * x, rtol=1e-6)
    with pytest.raises(ValueError, match="take a product with the Hessian from linearize"):
        bilinear_form(loss, x, x, x)


def test_a_gradient_that_cannot_be_differentiated_is_named():
    loss = softplus_with_a_backward_rule_of_its_own(sigmoid_on_the_host)
    x = jnp.ones(3)
    with pytest.raises(ValueError, match="no second derivative: it calls <lambda> at"):
        jax.jit(lambda x: linearize(loss, x)[2](x))(x)


def test_a_mistake_in_the_loss_keeps_its_own_error():
    loss = softplus_with_a_backward_rule_of_its_own(lambda x, cotangent: (cotangent,))
    with pytest.raises(TypeError, match="unexpected keyword"):
        linearize(lambda x: loss(x, scale=2.0), jnp.ones(3))
