"""What measuring costs: run with ``python -m benchmarks``; see README.md."""
