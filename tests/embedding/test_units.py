import jax
import numpy as np
import pytest

from phenodl.embedding import units
from phenodl.embedding.units import Slices, Units

RNG = np.random.default_rng(0)
HEADS, SIZE, WIDTH, PIXELS = 3, 2, 5, 4

ATTENTION = Units(
    incoming=(
        Slices(("query", "kernel"), 1, (-1, SIZE)),
        Slices(("key_value", "kernel"), 1, (2, -1, SIZE)),
        Slices(("key_value", "bias"), 0, (2, -1, SIZE)),
    ),
    outgoing=(Slices(("out", "kernel"), 0, (-1, SIZE)),),
)
ATTENTION_PARAMS = {
    "query": {"kernel": RNG.normal(size=(WIDTH, HEADS * SIZE))},
    "key_value": {
        "kernel": RNG.normal(size=(WIDTH, 2 * HEADS * SIZE)),
        "bias": RNG.normal(size=2 * HEADS * SIZE),
    },
    "out": {"kernel": RNG.normal(size=(HEADS * SIZE, WIDTH)), "bias": RNG.normal(size=WIDTH)},
}


def attention(params, x):
    """Each head by itself: softmax(q k') v times its rows of the last matrix."""
    heads = params["query"]["kernel"].shape[1] // SIZE
    keys, values = np.split(x @ params["key_value"]["kernel"] + params["key_value"]["bias"], 2, 1)
    total = 0
    for head in range(heads):
        own = slice(head * SIZE, (head + 1) * SIZE)
        scores = np.exp((x @ params["query"]["kernel"][:, own]) @ keys[:, own].T)
        mixed = scores / scores.sum(1, keepdims=True) @ values[:, own]
        total = total + mixed @ params["out"]["kernel"][own]
    return total + params["out"]["bias"]


CHANNELS = Units(  # flattened (pixels, channels) feed a dense layer
    incoming=(Slices(("conv",), 2), Slices(("bias",), 0)),
    outgoing=(Slices(("dense",), 0, (PIXELS, -1)),),
)
CHANNELS_PARAMS = {
    "conv": RNG.normal(size=(PIXELS, 2, 3)),
    "bias": RNG.normal(size=3),
    "dense": RNG.normal(size=(PIXELS * 3, 6)),
}


def channels(params, x):
    maps = np.tanh(np.einsum("bi,pic->bpc", x, params["conv"]) + params["bias"])
    return maps.reshape(len(x), -1) @ params["dense"]


CASES = [
    (ATTENTION, ATTENTION_PARAMS, attention, RNG.normal(size=(7, WIDTH)), HEADS),
    (CHANNELS, CHANNELS_PARAMS, channels, RNG.normal(size=(7, 2)), 3),
]


@pytest.mark.parametrize(("where", "params", "apply", "x", "number"), CASES)
class TestLayer:
    def test_counts_its_units(self, where, params, apply, x, number):
        assert units.count(params, where) == number

    @pytest.mark.parametrize("alpha", [0.3, -1.5, 1.0])
    def test_a_split_keeps_the_output(self, x64, where, params, apply, x, number, alpha):
        wide = jax.jit(lambda unit, alpha: units.split(params, where, unit, alpha))(1, alpha)
        wide = jax.tree.map(np.asarray, wide)
        assert units.count(wide, where) == number + 1
        np.testing.assert_allclose(apply(wide, x), apply(params, x), rtol=0, atol=1e-14)

    def test_null_units_keep_the_output_and_the_old_units(
        self, x64, where, params, apply, x, number
    ):
        wide = jax.tree.map(np.asarray, units.null(params, where, number=2))
        assert units.count(wide, where) == number + 2
        np.testing.assert_array_equal(apply(wide, x), apply(params, x))
        back = units.copy(wide, where, np.arange(number), np.ones(number))
        jax.tree.map(np.testing.assert_array_equal, back, params)

    def test_copies_whose_shares_do_not_sum_to_one_change_the_output(
        self, x64, where, params, apply, x, number
    ):
        source, share = np.append(np.arange(number), 0), np.ones(number + 1)
        wide = jax.tree.map(np.asarray, units.copy(params, where, source, share))
        assert np.abs(apply(wide, x) - apply(params, x)).max() > 0.1


def test_a_split_copies_keys_and_values_of_the_same_head(x64):
    wide = units.split(ATTENTION_PARAMS, ATTENTION, 1, 0.25)
    narrow = ATTENTION_PARAMS["key_value"]["kernel"].reshape(WIDTH, 2, HEADS, SIZE)
    copied = np.asarray(wide["key_value"]["kernel"]).reshape(WIDTH, 2, HEADS + 1, SIZE)
    np.testing.assert_array_equal(copied[:, :, :HEADS], narrow)
    np.testing.assert_array_equal(copied[:, :, HEADS], narrow[:, :, 1])
    out = ATTENTION_PARAMS["out"]["kernel"].reshape(HEADS, SIZE, WIDTH)
    shared = np.asarray(wide["out"]["kernel"]).reshape(HEADS + 1, SIZE, WIDTH)
    np.testing.assert_array_equal(shared[1], 0.75 * out[1])
    np.testing.assert_array_equal(shared[HEADS], 0.25 * out[1])


def test_units_and_shares_can_be_vmapped_over(x64):
    chosen, alphas = np.array([0, 2]), np.array([0.1, 2.0])
    both = jax.jit(jax.vmap(lambda unit, a: units.split(CHANNELS_PARAMS, CHANNELS, unit, a)))(
        chosen, alphas
    )
    for number in range(2):
        alone = units.split(CHANNELS_PARAMS, CHANNELS, chosen[number], alphas[number])
        for name, array in alone.items():
            np.testing.assert_array_equal(both[name][number], array)


@pytest.mark.parametrize(
    ("params", "where", "message"),
    [
        ({"a": np.ones(3)}, Units((Slices(("b",), 0),), ()), "an array at b, found none"),
        ({"a": np.ones(3)}, Units((Slices(("a",), 1),), ()), "a to have an axis 1"),
        ({"a": np.ones(5)}, Units((Slices(("a",), 0, (-1, 2)),), ()), "divide into"),
        ({"a": np.ones(4)}, Units((Slices(("a",), 0, (2, 2)),), ()), "exactly one -1"),
        (
            {"a": np.ones(4), "b": np.ones(3)},
            Units((Slices(("a",), 0),), (Slices(("b",), 0),)),
            "same number of units everywhere, got 4 in a, 3 in b",
        ),
    ],
)
def test_arrays_that_do_not_hold_such_units_are_refused(params, where, message):
    with pytest.raises(ValueError, match=message):
        units.null(params, where)


def test_a_unit_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"unit: expected a number in \[0, 3\), got 3"):
        units.split(CHANNELS_PARAMS, CHANNELS, 3, 0.5)


@pytest.mark.parametrize("alpha", [np.nan, np.inf])
def test_a_share_that_is_not_finite_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha: expected a finite number"):
        units.split(CHANNELS_PARAMS, CHANNELS, 1, alpha)


def test_a_traced_unit_that_does_not_exist_gives_nan(x64):
    wide = jax.jit(lambda unit: units.split(CHANNELS_PARAMS, CHANNELS, unit, 0.5))(7)
    assert np.isnan(np.asarray(wide["bias"])[3])
