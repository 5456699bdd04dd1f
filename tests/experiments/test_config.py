import math

import pytest

from experiments.config import Adam, require_count, require_each


@pytest.mark.parametrize(
    ("field", "value", "requirement"),
    [
        ("learning_rate", 0.0, "finite and positive"),
        ("learning_rate", math.inf, "finite and positive"),
        ("learning_rate", math.nan, "finite and positive"),
        ("b1", -0.1, r"in \[0, 1\)"),
        ("b2", 1.0, r"in \[0, 1\)"),
        ("b2", math.nan, r"in \[0, 1\)"),
        ("eps", -1e-8, "finite and not negative"),
        ("weight_decay", math.inf, "finite and not negative"),
    ],
)
def test_adam_names_the_field_and_what_it_must_be(field, value, requirement):
    with pytest.raises(ValueError, match=f"^{field} must be {requirement}, got"):
        Adam(**{field: value})


def test_the_ends_that_are_allowed():
    assert Adam(b1=0.0, b2=0.0, eps=0.0).b1 == 0.0


def test_helpers_name_the_offender():
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        require_count("seeds", 0)
    with pytest.raises(ValueError, match="steps must be at least 100, got 99"):
        require_count("steps", 99, least=100)
    with pytest.raises(ValueError, match=r"steps must be below 2\*\*31, got 3000000000"):
        require_count("steps", 3_000_000_000)
    with pytest.raises(ValueError, match=r"decays must be in \[0, 1\), got 1.2"):
        require_each("decays", (0.5, 1.2), 0, 1)
    with pytest.raises(ValueError, match="decays must be at least one number, got none"):
        require_each("decays", (), 0, 1)
