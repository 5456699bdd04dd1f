import sys

import numpy as np
import pytest

from phenodl.data import tables


def test_iris_is_fishers_table_standardised():
    inputs, targets = tables.iris()
    measures = np.hstack([inputs, targets])
    np.testing.assert_allclose(measures.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(measures.std(axis=0), 1, rtol=1e-14)
    # Correlations of the four measures, from the documentation of the data set in R.
    expected = [[-0.1176], [0.8718, -0.4284], [0.8179, -0.3661, 0.9629]]
    correlations = np.corrcoef(measures.T)
    for row, values in enumerate(expected, start=1):
        np.testing.assert_allclose(correlations[row, :row], values, atol=1e-4)


def test_the_type_is_the_callers():
    assert {each.dtype for each in tables.iris(dtype=np.float32)} == {np.dtype(np.float32)}


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError, match=r"scikit-learn: pip install 'phenodl\[data\]'"):
        tables.iris()
