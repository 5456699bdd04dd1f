"""Disconnected data: each component learns alone, and chance decides what lies between them.

The nine 3 x 3 masks: Bai, Zhao, Zhang, NeurIPS 2024, arXiv 2405.13721, Figures 4 and 5a.
"""
