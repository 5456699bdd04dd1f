"""A network is a point in the landscape of deeper ones.

The Embedding Principle in Depth: Bai, Luo, Xu, Zhang, arXiv 2205.13283.
"""
