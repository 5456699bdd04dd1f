import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from phenodl import plots


def test_style_ends_with_its_block():
    before = dict(matplotlib.rcParams)
    with plots.style():
        assert matplotlib.rcParams["font.size"] == 8
    assert dict(matplotlib.rcParams) == before


def test_a_figure_is_as_wide_as_a_text_column_and_unknown_to_pyplot():
    import matplotlib.pyplot as plt

    fig, axes = plots.figure(2, 3, height=4.0)
    assert axes.shape == (2, 3)
    assert tuple(fig.get_size_inches()) == (5.5, 4.0)
    assert plt.get_fignums() == []


def test_band_draws_median_and_quartiles():
    values = np.arange(5.0)[:, None] * np.ones(3)
    values[:, 2] = np.nan
    values[:4, 1] = np.nan
    with plots.style():
        fig, axes = plots.figure()
        line = plots.band(axes, np.arange(3), values, label="runs")
        fig.draw_without_rendering()
    np.testing.assert_array_equal(line.get_ydata(), [2.0, 4.0, np.nan])
    (area,) = axes.collections
    edges = area.get_paths()[0].vertices
    assert {1.0, 3.0} <= set(edges[edges[:, 0] == 0, 1])
    assert to_hex(line.get_color()) == plots.OKABE_ITO[0].lower()


def test_threshold_is_drawn_at_its_value_and_named():
    fig, axes = plots.figure()
    axes.set_yscale("log")
    line = plots.threshold(axes, 38.0, "38/η")
    fig.draw_without_rendering()
    assert list(line.get_ydata()) == [38.0, 38.0]
    assert [text.get_text() for text in axes.texts] == ["38/η"]


def _luminance(colour):
    channels = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("colour", plots.OKABE_ITO[:4])
def test_the_first_colours_stand_out_from_paper(colour):
    contrast = 1.05 / (_luminance(colour) + 0.05)
    assert contrast >= 2.5
