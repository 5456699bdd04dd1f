"""How the optimizer changes what a factorization finds, against gradient flow from the same start.

The flow's bias to low rank: Bai, Zhao, Zhang, NeurIPS 2024, arXiv 2405.13721.
"""
