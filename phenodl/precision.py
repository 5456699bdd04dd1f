"""What cannot be computed in single precision says so."""

import jax.numpy as jnp
import numpy as np


def require_double_precision(name: str) -> None:
    """Refuses to run what means nothing in single precision.

    Raises:
        ValueError: names what was to run.

    Example:
        >>> import jax
        >>> with jax.enable_x64(True):
        ...     require_double_precision("search")
    """
    if jnp.zeros(()).dtype != np.float64:
        raise ValueError(f"{name} must run in double precision, jax.enable_x64(True)")
