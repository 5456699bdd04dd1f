import numpy as np
import pytest

from phenodl.data import functions


def test_sine_mixture_spans_one_period_with_unit_amplitudes():
    inputs, targets = functions.sine_mixture(201, dtype=np.float64)
    x, y = inputs[:-1, 0], targets[:-1, 0]
    assert (inputs[0, 0], inputs[-1, 0]) == (-np.pi, np.pi)
    amplitudes = np.abs(np.fft.rfft(y)) / 100
    expected = np.zeros(101)
    expected[[1, 4]] = 1
    np.testing.assert_allclose(amplitudes, expected, atol=1e-12)
    np.testing.assert_allclose(np.diff(x), np.pi / 100, rtol=1e-10)


def test_quadratic_target_is_a_quadratic_without_mixed_terms():
    inputs, targets = functions.quadratic_target(seed=3, n=2000, dimension=20)
    design = np.hstack([inputs, inputs**2])
    coefficients, residual, *_ = np.linalg.lstsq(design, targets[:, 0], rcond=None)
    assert residual[0] < 1e-20
    # 40 coefficients of standard deviation 1 / sqrt(20): the sum of squares is 2 +- 0.45.
    assert 0.7 < (coefficients**2).sum() < 4
    np.testing.assert_allclose(inputs.mean(), 0, atol=5 / np.sqrt(inputs.size))
    np.testing.assert_allclose(inputs.std(), 1, atol=5 / np.sqrt(2 * inputs.size))


def test_seed_decides_everything():
    again = [functions.quadratic_target(seed)[1] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(again[0], again[1])
    assert not np.allclose(again[0], again[2])


@pytest.mark.parametrize("arguments", [{"n": 0}, {"dimension": -1}])
def test_sizes_must_be_positive(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be at least 1"):
        functions.quadratic_target(0, **arguments)
