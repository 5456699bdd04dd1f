"""The experiments: what is trained, which claims are tested, and the command line that runs it all.

One room per experiment, ``experiments/<study>/<phenomenon>/``: ``config.py`` declares it without
importing jax, ``run.py`` trains and analyzes. ``python -m experiments`` lists them.
"""
