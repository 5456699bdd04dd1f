"""Plateaus of wide networks are critical points of narrow ones (EP, arXiv 2105.14573, Fig. 1)."""
