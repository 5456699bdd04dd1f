"""The errors on observed and on unobserved entries, by sample size, width and start."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from experiments.completion.generalization.config import WELL_SAMPLED, Config
from phenodl.data.matrices import Instances, low_rank_matrices, random_masks

SMALL, LARGE = 0, 1  # places of the two starts


class Outcome(NamedTuple):
    """Relative errors |W - M|_F / |M|_F of the learned matrices.

    Attributes:
        test: on the unobserved entries.
        training: on the observed ones.
        well_sampled: sample sizes from ``WELL_SAMPLED`` per degree of freedom.
    """

    test: Float[np.ndarray, "sizes repeats widths starts"]
    training: Float[np.ndarray, "sizes repeats widths starts"]
    well_sampled: Bool[np.ndarray, " sizes"]

    def test_at(self, width: int, start: int) -> Float[np.ndarray, " instances"]:
        """Test errors of the well sampled instances at the width of a place and from a start."""
        return self.test[self.well_sampled, :, width, start].ravel()

    def growth(self, narrow: int, wide: int, start: int) -> Float[np.ndarray, " instances"]:
        """By how many decades the test error of each well sampled instance grows with the width."""
        return np.log10(self.test_at(wide, start) / self.test_at(narrow, start))


def instances(config: Config) -> Instances:
    """The instances of a configuration, all of one sample size after those of another."""
    rng = np.random.default_rng(config.seed)
    entries = np.repeat(np.array(config.sample_sizes), config.repeats)
    rank = np.full(len(entries), config.rank)
    shape = (config.side, config.side)
    return Instances(low_rank_matrices(rng, rank, shape), random_masks(rng, entries, shape), rank)


def measure(config: Config, trained: xr.Dataset) -> Outcome:
    """Holds the learned matrices against the ground truths."""
    family = instances(config)
    learned = trained.W.values  # (instances, widths, starts, rows, columns)
    target, mask = (array[:, None, None] for array in (family.target, family.mask))

    def relative_error(entries: Bool[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        squares = ((learned - target) ** 2 * entries).sum((-2, -1))
        error = np.sqrt(squares / (target**2 * entries).sum((-2, -1)))
        return error.reshape(len(config.sample_sizes), config.repeats, *error.shape[1:])

    many = WELL_SAMPLED * config.degrees_of_freedom
    return Outcome(
        relative_error(~mask), relative_error(mask), np.array(config.sample_sizes) >= many
    )
