"""The compiled inside of :mod:`phenodl.training`: one step, blocks of runs, packing of rows."""
