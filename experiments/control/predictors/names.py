"""The predictors that are compared, by name, and what they are called in figures and tables."""

REFERENCE = "curvature_a"
"""The paper's: Ĥ along the gradient. The others are held against it."""

LABELS = {
    REFERENCE: "A: Ĥ along gradient",
    "curvature_b": "B: symmetric form",
    "curvature_c": "C: Ĥ along update",
    "curvature_b_every_5": "B every 5 steps",
    "curvature_b_on_part": "B on 1/8 of the batch",
    "secant_same_batch": "secant norm, same batch",
    "secant_rayleigh": "secant Rayleigh",
    "secant_norm": "secant norm",
    "secant_stretch": "secant stretch",
    "secant_or_gradient": "stretch or gradient",
    "decoupling": "decoupling v̂ / g²",
    "decoupling_layers": "decoupling, worst layer",
    "reversal": "reversal of updates",
    "grad_norm_rise": "gradient norm / average",
    "loss_rise": "loss / average",
}
"""The exact ones first; those from ``secant_rayleigh`` on take no derivative of their own."""
