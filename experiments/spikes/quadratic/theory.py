r"""What must come out: Adam on λθ²/2, derived.

**The edge.** With f = (1 - β1)/(1 + β1), the preconditioned curvature is fλ/(√v̂ + ε), and the step
is stable below 2/η (SPIKE). A spike therefore waits for

    √v̂ < ηfλ/2 - ε,    which never comes if ε ≥ ηfλ/2.

**Its step.** Once g² ≪ v, v = V β2^n after n gradients, and v̂ = V β2^n / (1 - β2^n). So

    n = ln(1 + V / (ηfλ/2 - ε)²) / ln(1/β2).

V is proportional to λ² for a given start. Without ε the step is the same for every λ: Adam is
diagonal, and along the axes an ill-conditioned quadratic crosses in all coordinates at once. With
ε those of λ ≤ 2ε/(ηf) never do.

**The fall before it.** With ε = 0, λ = 1, h_t = η/√v̂_t and s = h_t / h_{t-1} (→ 1/√β2) the update
is

    θ_{t+1} = (1 + sβ1 - (1 - β1) h_t) θ_t - sβ1 θ_{t-1}.

While h changes slowly, θ changes per step by the larger root z(h) of
z² - (1 + sβ1 - (1 - β1)h) z + sβ1, and ln θ by (1/ln s) ∫ ln|z(h)| dh/h: faster than exponentially
at first, by √(sβ1) per step where the roots are complex, and upwards from |z| = 1 on, which is at
h = 2(1 + sβ1)/(1 - β1) (2/η, but for s). For β1 = 0 the integral from 0 to there is -π²/4: the loss
falls by the factor exp(-π²/ln(1/β2)).

**The peak.** v stops to shrink when g² has grown to v again. On the way h overshoots the edge; for
β1 = 0 and β2 → 1 to the zero h = 12.6 of the integral, 6.3 times the edge.

**The ring-down.** After the peak v hardly changes, s = 1, and below the edge the roots are complex:
θ swings through zero and its square shrinks by the product of the roots, β1, per step. From one top
of a swing to the next it takes less than 2/(1 - β1) steps as soon as h > e(1 - β1), about: the
highest loss of that many steps cannot rise again, and a detector that looks at it sees no spike.

**Small β2.** In the swings θ² shrinks like β1^t, more exactly (β1 β2^(-1/4))^t, as the frequency
grows with h. If v forgets faster, β2^(5/4) < β1, it keeps up with g² and θ swings on; where β2 < β1
it does so closely enough for h to stay below the edge (measured). As nothing but η has the unit of
θ, the size of the swings is a multiple of η that depends on β1 and β2 alone.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike


def momentum_factor(b1: ArrayLike) -> Float[np.ndarray, "..."]:
    """The factor f = (1 - β1)/(1 + β1) of the preconditioned curvature, late in a run."""
    b1 = np.asarray(b1, float)
    return (1 - b1) / (1 + b1)


def crossing(
    constant: ArrayLike,
    learning_rate: ArrayLike,
    b1: ArrayLike,
    b2: ArrayLike,
    eps: ArrayLike = 0.0,
    eigenvalue: ArrayLike = 1.0,
) -> Float[np.ndarray, "..."]:
    """The number of gradients after which the curvature crosses 2/η; infinite where it never does.

    Args:
        constant: V, of v = V β2^n once the gradient has no part in it.
        learning_rate: η.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: ε.
        eigenvalue: λ, of the Hessian.

    Example:
        >>> print(crossing(1e-4, 0.2, 0.0, 0.5, eps=[0.09, 0.11]).round(3))
        [ 1. inf]
    """
    room = np.asarray(learning_rate) * momentum_factor(b1) * np.asarray(eigenvalue) / 2
    room = np.maximum(room - np.asarray(eps), 0.0)
    with np.errstate(divide="ignore"):
        return np.log1p(np.asarray(constant) / room**2) / np.log(1 / np.asarray(b2))


def edge(b1: float, b2: float) -> float:
    """The h = η/√v̂ from which on θ²/2 is unstable, the growth of h included."""
    return 2 * (1 + b1 / np.sqrt(b2)) / (1 - b1)


def fall_of_theta(h: Float[np.ndarray, " steps"], b1: float) -> Float[np.ndarray, " rest"]:
    """The change of ln θ since the first step, at each later one, while h = η/√v̂ grows slowly.

    Args:
        h: of consecutive steps.
        b1: decay of the first moment.

    Example:
        >>> h = np.geomspace(2e-4, 2, 4001)
        >>> loss, forgetting = 2 * fall_of_theta(h, b1=0.0)[-1], 2 * np.log(h[1] / h[0])
        >>> print((loss * forgetting / np.pi**2).round(2))
        -1.0
    """
    product = b1 * h[1:] / h[:-1]
    half = np.abs(1 + product - (1 - b1) * h[1:]) / 2
    root = np.abs(half + np.sqrt((half**2 - product).astype(complex)))
    return np.cumsum(np.log(np.maximum(root, np.finfo(float).tiny)))
