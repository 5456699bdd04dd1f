"""The puzzle of generalization in matrix completion: more parameters than data, and no harm done.

Zhang et al., ICLR 2017, arXiv 1611.03530, pose it; that a small start answers it for matrix
factorization is the subject of Gunasekar et al., NeurIPS 2017, arXiv 1705.09280, and of Bai, Zhao,
Zhang, NeurIPS 2024, arXiv 2405.13721.
"""
