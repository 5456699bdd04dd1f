"""What ``spikes-language`` trains: the text, the decoder that learns it, and the sweeps of runs."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from experiments.errors import UserError
from experiments.spikes.language.config import Config
from phenodl import sweep
from phenodl.data import text
from phenodl.data.text import Text, TextError
from phenodl.microbatch import accumulate
from phenodl.models import decoder
from phenodl.models.decoder import Sizes
from phenodl.models.losses import smoothing_floor
from phenodl.protocol import Problem
from phenodl.sweep import Runs


class Task(NamedTuple):
    """Passages of a text, and the decoder that learns them.

    Attributes:
        text: all of it.
        sequences: the passages that are learned.
        sizes: of the decoder.
        floor: the lowest loss there can be.
    """

    text: Text
    sequences: Int[np.ndarray, "n length_1"]
    sizes: Sizes
    floor: float


def load(config: Config) -> Task:
    """The task of a configuration.

    Raises:
        UserError: the file cannot be used; the message names it.
    """
    try:
        source = text.help_topics() if config.file is None else text.read_text(config.file)
        passages = text.sequences(source, config.sequences, config.network.length)
    except TextError as error:
        raise UserError(str(error)) from error
    vocabulary = len(source.vocabulary)
    return Task(
        text=source,
        sequences=passages,
        sizes=Sizes(vocabulary, **asdict(config.network)),
        floor=smoothing_floor(vocabulary, config.smoothing),
    )


def problem(task: Task, config: Config) -> Problem:
    """Predict every next byte, over micro-batches in turn if the configuration asks for them."""
    whole = decoder.problem(
        task.sequences,
        task.sizes,
        batch_size=config.batch_size,
        smoothing=config.smoothing,
        remat=config.remat,
    )
    if config.micro_batches == 1:
        return whole
    return whole._replace(loss=accumulate(whole.loss, config.micro_batches))


def runs(config: Config, seeds: int, **others: Sequence[float]) -> Runs:
    """So many seeds with Adam's hyper-parameters, some of them varied."""
    hyper: dict[str, Any] = {**asdict(config.optimizer), **others}
    first = config.first_seed
    return sweep.product(key=jax.random.key(0), seed=range(first, first + seeds), **hyper)
