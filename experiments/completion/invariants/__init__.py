"""What gradient flow conserves, whatever is observed and whatever the loss: rank and balance.

The invariant manifolds: Bai, Zhao, Zhang, NeurIPS 2024, arXiv 2405.13721, section 4.
"""
