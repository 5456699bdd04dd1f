"""What every experiment on loss spikes trains with and measures."""

from collections.abc import Sequence

from phenodl import probes, training
from phenodl.optim import adam
from phenodl.protocol import Probe
from phenodl.spikes import curvatures
from phenodl.spikes.curvatures import Quotient
from phenodl.spikes.decoupling import moments_probe

SPIKE = "SPIKE (arXiv 2506.04805)"
"""The paper that most claims are from."""

ADAM = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())
"""Adam, or AdamW, with every hyper-parameter that a run names. One object: equal programs compile
once."""

DIRECTIONS: tuple[Quotient, ...] = ("lambda_grad", "curvature_a", "curvature_b", "curvature_c")


def measurements(
    *,
    quotients: Sequence[Quotient] = DIRECTIONS,
    products: int = 3,
    plain_products: int = 0,
    depth: int | None = 1,
    every: int = 1,
) -> list[Probe]:
    """Loss, gradient norm and threshold of every step, with the curvatures that are wanted.

    Args:
        quotients: curvatures along gradient and update; none of them if empty.
        products: Hessian-vector products for λ_max(Ĥ) per measurement; 0 leaves it out.
        plain_products: the same for λ_max(H).
        depth: the number of keys that name a layer, over which g² and v̂ are summed and recorded;
            None leaves them out.
        every: steps between two measurements of curvature.
    """
    chosen = [probes.loss(), probes.grad_norm(), curvatures.threshold_probe()]
    if depth is not None:
        chosen.append(moments_probe(depth=depth))
    if quotients:
        chosen.append(curvatures.gradient_probe(which=quotients, every=every))
    if products:
        chosen.append(
            curvatures.eigenvalue_probe(which=["lambda_max_adam"], products=products, every=every)
        )
    if plain_products:
        chosen.append(
            curvatures.eigenvalue_probe(which=["lambda_max"], products=plain_products, every=every)
        )
    return chosen
