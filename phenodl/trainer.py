"""Who trains for a search that needs trainings of its own.

A search of the library (greedy learning, critical points) does not know whether its trainings are
to be kept. It asks for a trainer: by itself :func:`in_memory`; an experiment hands in one that
writes, shows and resumes.
"""

from collections.abc import Callable
from typing import Any

import xarray as xr

from phenodl.protocol import Method, Problem
from phenodl.results import collect
from phenodl.sweep import Runs
from phenodl.training import train

Trainer = Callable[..., xr.Dataset]
"""``trainer(name, problem, method, runs, **training) -> Dataset``, with the arguments of
:func:`phenodl.training.train`; the name tells apart the trainings of one search."""


def in_memory(
    name: str, problem: Problem, method: Method, runs: Runs, **training: Any
) -> xr.Dataset:
    """Trains and collects the results, keeps nothing.

    Example:
        >>> import jax, optax
        >>> from phenodl import probes, sweep
        >>> from phenodl.training import from_optax
        >>> bowl = Problem(lambda *_: jax.numpy.ones(2), lambda x, batch: (x**2).sum())
        >>> runs = sweep.product(key=jax.random.key(0), seed=[0])
        >>> sgd = from_optax(lambda hyper: optax.sgd(0.1))
        >>> in_memory("bowl", bowl, sgd, runs, steps=3, probes=[probes.loss()]).loss.shape
        (1, 3)
    """
    del name
    return collect(train(problem, method, runs, **training))
