"""Completion of real data, a photograph or a file of the user's own, by a factorization.

The model and the bias that connectivity makes one expect: Bai, Zhao, Zhang, NeurIPS 2024,
arXiv 2405.13721.
"""
