"""Tiny experiments, to try the command line on."""
