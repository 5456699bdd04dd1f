"""Which implicit regularization a factorization shows, by the connectivity of the observed entries.

The model and its claims: Bai, Zhao, Zhang, NeurIPS 2024, arXiv 2405.13721, Figure 1.
"""
