"""Data sets and generators of data, one module per kind."""
