"""How gradient flow climbs the hierarchy of intrinsic invariant manifolds, saddle by saddle.

The hierarchy and its saddles: Bai, Zhao, Zhang, NeurIPS 2024, arXiv 2405.13721, Figures 3 and 5b.
"""
