r"""What must come out: rates and borders of Adam on θ^p / p, derived in discrete time.

Adam with ε = 0, once its bias corrections are 1, is with g = θ^(p-1)

    m_t = β1 m_{t-1} + (1 - β1) g_t,    v_t = β2 v_{t-1} + (1 - β2) g_t²,
    θ_{t+1} = θ_t - η m_t / √v_t.

θ → cθ, η → cη maps solutions onto solutions: η is a unit of length, and no property of the motion
close to the minimum depends on it.

**Decoupled motion.** Suppose g² ≪ v. Then v_t = V β2^t. Let p > 2 and try θ_t = A r^t. The moment
is m_t = (1 - β1) g_t / (1 - q) with q = β1 / r^(p-1), provided q < 1, and both sides of the update
shrink alike if

    r^(p-2) = √β2,    so    r = β2^(1/(2(p-2))),    loss ~ r^(pt) = β2^(pt/(2(p-2))),
    η (1 - β1) A^(p-2) / √V = (1 - r)(1 - q).

Convergence is linear, at a rate that neither η nor β1 enters. g²/v ~ (r^(2(p-1)) / β2)^t
= β2^(t/(p-2)) → 0: the assumption confirms itself. The preconditioned curvature stands still,

    η λ = (1 - β1)/(1 + β1) η (p - 1) θ^(p-2) / √v = (p - 1)(1 - r)(1 - q)/(1 + β1),

as the Hessian shrinks as fast as the preconditioner grows.

**Its stability.** With θ_t = r^t x_t and m_t = r^((p-1)t) μ_t the motion is autonomous. At its
fixed point, with c = (p - 1)(1 - q)(1 - r),

    δx' = ((1 - c) δx - q δμ) / r,    δμ' = c δx + q δμ,

a matrix of trace (1 - c)/r + q and determinant q/r. Its eigenvalues lie inside the unit circle if
and only if

    β1 < r^p = β2^(p/(2(p-2)))                       (momentum forgets faster than θ shrinks)
    (p - 1)(1 - q)(1 - r) < (1 + q)(1 + r)           (no alternation; λ < 2/η as β → 1).

**Swings.** If momentum remembers for longer, θ swings through zero. While both moments are slow,
γ = -ln β1 ≪ 1 and κ = -½ ln β2 ≪ 1, the motion is the oscillator
θ'' + (γ - κ) θ' + ηγ e^(κt) θ^(p-1) / √V = 0, friction being weakened by the growth of the
preconditioner. Its action shrinks as e^(-(γ-κ)t), and so the amplitude as e^(-(2γ-κ)t/(p+2)).
Then g²/v falls, θ's motion decouples, and the frequency grows until the step is too large: a spike,
again and again. It does so if (p - 1)(2γ - κ) > (p + 2) κ, that is if β1 < β2^((2p+1)/(4(p-1)));
otherwise v keeps up with g², and θ swings with an amplitude of the order of η, as sign descent.

For β1 = 0 the shortest of these swings is exact: θ_t = ±η/2. It is stable where β2 < 1/(2p - 3).

**p = 2** is different: r does not exist, and no decoupled motion converges. See
:mod:`experiments.spikes.quadratic.theory`.

**Gradient descent** has θ' = -ηθ^(p-1), so θ = ((p - 2) ηt)^(-1/(p-2)) and a loss of the power
-p/(p-2); momentum multiplies η by 1/(1 - β1) and leaves the power. For p = 2 both are linear.

Linear convergence, decoupling and the three regimes are those of DEG (arXiv 2603.09581); the
derivation in discrete time with momentum is this module's own.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

STABLE, SPIKES, SWINGS = range(3)
"""The regimes: linear convergence, recurring spikes, and sign-like swings of the order of η."""

ROUNDING = 1e-12
"""Relative room for rounding: for p = 4 the border is β1 = β2, where nothing converges."""


def contraction(power: int, b2: ArrayLike) -> Float[np.ndarray, "..."]:
    """The factor r by which θ shrinks per step in the decoupled motion, for a power beyond 2.

    Raises:
        ValueError: ``power`` is not beyond 2; then there is no such motion.

    Example:
        >>> float(contraction(4, 0.0625))
        0.5
    """
    if power <= 2:
        raise ValueError(f"power must be beyond 2, got {power}")
    return np.asarray(b2, float) ** (1 / (2 * (power - 2)))


def loss_rate(power: int, b2: ArrayLike) -> Float[np.ndarray, "..."]:
    """The change of ln(loss) per step in the decoupled motion, for a power beyond 2."""
    return power * np.log(contraction(power, b2))


def curvature(power: int, b1: ArrayLike, b2: ArrayLike) -> Float[np.ndarray, "..."]:
    """The constant η λ at which the preconditioned curvature stands in the decoupled motion."""
    b1, r = np.asarray(b1, float), contraction(power, b2)
    return (power - 1) * (1 - r) * (1 - b1 / r ** (power - 1)) / (1 + b1)


def converges(power: int, b1: ArrayLike, b2: ArrayLike) -> np.ndarray:
    """Whether the decoupled motion is stable, so that convergence is linear; booleans.

    Example:
        >>> bool(converges(4, 0.9, 0.99)), bool(converges(4, 0.99, 0.9)), bool(converges(2, 0, 0.9))
        (True, False, False)
    """
    b1, b2 = np.broadcast_arrays(np.asarray(b1, float), np.asarray(b2, float))
    if power == 2:
        return np.zeros(b1.shape, bool)
    r = contraction(power, b2)
    q = b1 / r ** (power - 1)
    return (q < r * (1 - ROUNDING)) & ((power - 1) * (1 - q) * (1 - r) < (1 + q) * (1 + r))


def regime(power: int, b1: ArrayLike, b2: ArrayLike) -> np.ndarray:
    """STABLE, SPIKES or SWINGS at each (β1, β2)."""
    swings = np.where(np.asarray(b1) > border_of_swings(power, b2), SWINGS, SPIKES)
    return np.where(converges(power, b1, b2), STABLE, swings)


def border_of_swings(power: int, b2: ArrayLike) -> Float[np.ndarray, "..."]:
    """β1 beyond which v keeps up with g²."""
    return np.asarray(b2, float) ** ((2 * power + 1) / (4 * (power - 1)))


def descent_exponent(power: int) -> float:
    """The power of the step number that the loss of gradient descent follows beyond p = 2."""
    return -power / (power - 2)
