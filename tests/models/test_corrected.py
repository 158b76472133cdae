"""Corrected weights: forward one matrix, backward through the narrow side, and the same gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax.models.corrected import Corrected, correction
from azr_jax.models.products import axes_of

SIZES = {"b": 2, "t": 6, "d": 24, "h": 4, "k": 6, "f": 32, "r": 2}
FORMULAS = ["btd,hkd->bthk", "btd,fd->btf", "bthk,dhk->btd", "btf,df->btd"]


def arrays(formula: str, r: int = 2):
    left, right, out = axes_of(formula)
    ins, outs = ("".join(axis for axis in right if axis in side) for side in (left, out))
    random = np.random.default_rng(0)
    sizes = SIZES | {"r": r}
    axes = (left, right, f"r{ins}", f"{outs}r", out)
    return [jnp.asarray(random.normal(size=[sizes[axis] for axis in each]), jnp.float32) for each in axes]


@pytest.mark.parametrize("formula", FORMULAS)
def test_value_and_gradients_are_those_of_the_merged_weight(formula):
    x, w, a, b, d_out = arrays(formula)
    y, back = jax.vjp(lambda x, a, b: Corrected(w, a, b).product(formula, None, x, jnp.float32), x, a, b)
    plain, other = jax.vjp(lambda x, a, b: jnp.einsum(formula, x, w + correction(a, b, w)), x, a, b)
    np.testing.assert_array_equal(y, plain)
    for mine, theirs in zip(back(d_out), other(d_out)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("formula", FORMULAS)
def test_with_products_in_bfloat16_the_small_ones_stay_float32(formula):
    x, w, a, b, d_out = arrays(formula)
    y, back = jax.vjp(lambda x, a, b: Corrected(w, a, b).product(formula, None, x, jnp.bfloat16), x, a, b)
    exact, other = jax.vjp(lambda x, a, b: jnp.einsum(formula, x, w + correction(a, b, w)), x, a, b)
    assert y.dtype == jnp.float32 and float(jnp.abs(y - exact).max()) > 0
    (d_x, d_a, d_b), (x_exact, a_exact, b_exact) = back(d_out), other(d_out)
    np.testing.assert_allclose(d_a, a_exact, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(d_b, b_exact, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(d_x, x_exact, rtol=0.05, atol=0.5)


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_gradient_of_the_whole_matrix_is_made(formula):
    x, w, a, b, d_out = arrays(formula)

    def flops(product) -> float:
        def gradients(x, a, b):
            return jax.vjp(product, x, a, b)[1](d_out)

        return jax.jit(gradients).lower(x, a, b).compile().cost_analysis()["flops"]

    whole = flops(lambda x, a, b: jnp.einsum(formula, x, w + correction(a, b, w)))
    narrow = flops(lambda x, a, b: Corrected(w, a, b).product(formula, None, x, jnp.float32))
    large = 2 * w.size * SIZES["b"] * SIZES["t"]
    assert whole - narrow > 0.3 * large


def test_no_gradient_is_asked_of_the_weight_itself():
    x, w, a, b, _ = arrays(FORMULAS[0])
    gradient = jax.grad(lambda w: Corrected(w, a, b).product(FORMULAS[0], None, x, jnp.float32).sum())(w)
    assert not gradient.any()
