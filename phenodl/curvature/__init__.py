"""Curvature of a loss: quadratic forms, Hessian products, extreme eigenpairs, spectral density."""

from phenodl.curvature.density import Spectrum, moments, smoothed_density, spectrum
from phenodl.curvature.lanczos import Eigenpairs, cold_start, eigenpairs, lanczos
from phenodl.curvature.operators import dense, hessian, layer_masks, preconditioned, restrict
from phenodl.curvature.products import bilinear_form, linearize, quadratic_form

__all__ = [
    "Eigenpairs",
    "Spectrum",
    "bilinear_form",
    "cold_start",
    "dense",
    "eigenpairs",
    "hessian",
    "lanczos",
    "layer_masks",
    "linearize",
    "moments",
    "preconditioned",
    "quadratic_form",
    "restrict",
    "smoothed_density",
    "spectrum",
]
