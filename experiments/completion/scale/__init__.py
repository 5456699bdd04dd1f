"""Exact recovery of low-rank matrices of 20 to 200 rows by factorization from a small start.

What is drawn beside it: the degrees of freedom 2 r d - r², and the d log d entries at which a
uniformly random observation graph becomes connected (Candès and Tao, IEEE Trans. Inf. Theory 56,
2010, arXiv 0903.1476). Connectivity as the second axis follows Bai, Zhao, Zhang, NeurIPS 2024,
arXiv 2405.13721.
"""
