"""How the bias to low rank grows with the depth of the factorization.

After Arora, Cohen, Hu, Luo, NeurIPS 2019, arXiv 1905.13655.
"""
