import numpy as np
import pytest

from phenodl.data import functions

POINTS = np.random.default_rng(0).standard_normal((9, 3))


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


def test_sines_are_waves_along_their_vectors():
    waves, amplitudes = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]]), np.array([2.0, -1.0])
    values = functions.sines(POINTS, waves, amplitudes)
    expected = [2 * np.sin(x - 2 * y + z / 2) - np.sin(3 * y + z) for x, y, z in POINTS]
    np.testing.assert_allclose(values[:, 0], expected, rtol=1e-12)
    # A step of one wavelength along the first vector, across the second, changes nothing.
    along = np.linalg.solve(np.vstack([waves, [1.0, 1.0, 1.0]]), [2 * np.pi, 0.0, 0.0])
    np.testing.assert_allclose(functions.sines(POINTS + along, waves, amplitudes), values)


def test_polynomials_are_sums_over_axes():
    coefficients = np.random.default_rng(1).standard_normal((5, 3))
    values = functions.polynomial(POINTS, coefficients)
    by_axis = [
        np.polynomial.Polynomial([0.0, *coefficients[:, axis]])(POINTS[:, axis])
        for axis in range(3)
    ]
    np.testing.assert_allclose(values[:, 0], np.sum(by_axis, axis=0), rtol=1e-12)


def test_steps_count_the_half_spaces_that_hold_a_point():
    normals = np.random.default_rng(2).standard_normal((6, 3))
    offsets = np.linspace(-1, 1, 6)
    values = functions.steps(POINTS, normals, offsets)
    expected = [sum(n @ x > b for n, b in zip(normals, offsets, strict=True)) for x in POINTS]
    np.testing.assert_array_equal(values[:, 0], expected)
    heights = 2.0 ** np.arange(6)
    each = [functions.steps(POINTS, [n], b) for n, b in zip(normals, offsets, strict=True)]
    np.testing.assert_allclose(
        functions.steps(POINTS, normals, offsets, heights), np.hstack(each) @ heights[:, None]
    )


@pytest.mark.parametrize(
    "values",
    [
        functions.sines(POINTS.astype(np.float32), np.ones((2, 3))),
        functions.polynomial(POINTS.astype(np.float32), np.ones((2, 3))),
        functions.steps(POINTS.astype(np.float32), np.ones((2, 3))),
    ],
)
def test_targets_have_the_dtype_of_the_points(values):
    assert values.dtype == np.float32
    assert values.shape == (9, 1)


@pytest.mark.parametrize("arguments", [{"n": 0}, {"dimension": -1}])
def test_sizes_must_be_positive(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be at least 1"):
        functions.quadratic_target(0, **arguments)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (functions.sines, ([[1.0]],), r"frequencies: expected shape \(rows, 3\), got \(1, 1\)"),
        (functions.sines, (np.ones((2, 3)), np.ones(3)), "amplitudes: expected one number or 2"),
        (functions.polynomial, (np.ones(3),), r"coefficients: expected shape \(rows, 3\)"),
        (functions.steps, (np.ones((2, 4)),), r"normals: expected shape \(rows, 3\)"),
        (functions.steps, (np.ones((2, 3)), np.ones(1)), "offsets: expected one number or 2"),
        (functions.steps, (np.ones((2, 3)), 0.0, np.ones(5)), "heights: expected one number or 2"),
    ],
)
def test_shapes_that_do_not_fit_are_named(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(POINTS, *arguments)
    with pytest.raises(ValueError, match="points: expected shape"):
        function(POINTS[0], *arguments)


@pytest.mark.parametrize("function", [functions.sines, functions.polynomial, functions.steps])
def test_integer_points_would_truncate_the_targets(function):
    with pytest.raises(ValueError, match="points: expected floating numbers, got int64"):
        function(np.ones((2, 3), np.int64), np.full((1, 3), 0.5))


def test_staircases_have_one_step_in_each_third():
    for seed in range(20):
        inputs, targets = functions.staircase(seed, n=1001, width=1e-5)
        np.testing.assert_allclose([targets.mean(), targets.std()], [0, 1], atol=1e-12)
        thirds = np.searchsorted(inputs[:, 0], [-0.6, -0.2, 0.2, 0.6])
        heights = np.diff(targets[thirds, 0])
        np.testing.assert_allclose(heights.sum(), np.ptp(targets), rtol=1e-9)
        assert 0 < heights.max() <= 3 * heights.min()
        rises = np.diff(targets[:, 0]) > 1e-3
        assert rises.sum() <= 6  # each at one place, or on either side of a point


def test_a_staircase_needs_wide_steps():
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        functions.staircase(seed=0, width=0)


def test_a_staircase_of_one_point_has_no_standard_deviation():
    with pytest.raises(ValueError, match="n must be at least 2, got 1"):
        functions.staircase(seed=0, n=1)
