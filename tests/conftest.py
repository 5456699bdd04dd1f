"""Every test runs on two virtual devices, with strict dtypes and shapes."""

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """Double precision for one test; the library itself never flips the global flag."""
    with jax.enable_x64(True):
        yield
