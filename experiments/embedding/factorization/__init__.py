"""Matrix factorization as a network: its hierarchy is one of embeddings.

The hierarchy: Bai, Zhao, Zhang, NeurIPS 2024, arXiv 2405.13721. The embeddings: Zhang, Zhang, Luo,
Xu, NeurIPS 2021, arXiv 2105.14573.
"""
