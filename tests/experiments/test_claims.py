import json
import math

import numpy as np
import pytest
import scipy.stats

from experiments.claims import (
    Claim,
    Target,
    bootstrap,
    bootstrap_claim,
    dumps,
    exact,
    exact_claim,
    loads,
    share,
    share_claim,
)


def claim(**changes):
    fields = {
        "id": "toys/claim",
        "statement": "Something is so.",
        "source": "TOY §1",
        "measured": 0.9,
        "interval": (0.8, 0.97),
        "n": 50,
        "target": Target(">=", 0.75),
    }
    return Claim(**(fields | changes))


@pytest.mark.parametrize(
    ("relation", "value", "interval", "verdict"),
    [
        (">=", 0.95, (0.95, 1.0), "holds"),
        (">=", 0.95, (0.90, 0.96), "undetermined"),
        (">=", 0.95, (0.80, 0.949), "fails"),
        (">=", 0.95, (0.80, 0.95), "undetermined"),
        (">", 0.5, (0.5, 0.6), "undetermined"),
        (">", 0.5, (0.4, 0.5), "fails"),
        ("<=", 1e-4, (0.0, 1e-4), "holds"),
        ("<=", 1e-4, (2e-4, 3e-4), "fails"),
        ("<", 1.0, (0.1, 0.999), "holds"),
        ("<", 1.0, (1.0, 2.0), "fails"),
        ("in", (1.9, 2.1), (1.95, 2.1), "holds"),
        ("in", (1.9, 2.1), (2.2, 2.4), "fails"),
        ("in", (1.9, 2.1), (1.0, 1.8), "fails"),
        ("in", (1.9, 2.1), (1.8, 2.0), "undetermined"),
        ("in", (1.9, 2.1), (1.0, 3.0), "undetermined"),
        (">=", 0.5, (math.nan, math.nan), "undetermined"),
        (">=", 0.5, (0.5, math.inf), "holds"),
    ],
)
def test_verdict_is_decided_only_when_the_whole_interval_lies_on_one_side(
    relation, value, interval, verdict
):
    assert Target(relation, value).verdict(interval) == verdict


def test_a_claim_surprises_when_its_verdict_is_not_the_expected_one():
    assert not claim().surprising
    assert claim(expected="fails").surprising
    assert not claim(interval=(0.1, 0.2), expected="fails").surprising


@pytest.mark.parametrize("target", [("~", 1.0), (">=", (1.0, 2.0)), ("in", 1.0)])
def test_a_target_that_makes_no_sense_is_refused(target):
    with pytest.raises(ValueError, match="no such target"):
        Target(*target)


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (7, 7), (3, 7), (15, 16), (1, 1000)])
def test_share_agrees_with_scipys_exact_interval(successes, n):
    expected = scipy.stats.binomtest(successes, n).proportion_ci(0.95, method="exact")
    measured, interval = share(successes, n)
    assert measured == successes / n
    # scipy finds the ends as roots, to 2e-12.
    np.testing.assert_allclose(interval, (expected.low, expected.high), rtol=0, atol=1e-11)


def test_share_has_its_closed_form_at_both_ends():
    np.testing.assert_allclose(share(0, 20).interval, (0.0, 1 - 0.025 ** (1 / 20)), rtol=1e-14)
    np.testing.assert_allclose(share(20, 20).interval, (0.025 ** (1 / 20), 1.0), rtol=1e-14)


def test_share_of_nothing_is_unknown():
    measured, interval = share(0, 0)
    assert math.isnan(measured)
    assert interval == (0.0, 1.0)


def test_share_refuses_more_successes_than_trials():
    with pytest.raises(ValueError, match=r"successes must be in \[0, n = 3\], got 4"):
        share(4, 3)


def test_bootstrap_of_a_mean_approaches_the_normal_interval():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    measured, (low, high) = bootstrap(values, np.mean, seed=1, resamples=4000)
    error = 1.96 * values.std() / math.sqrt(400)
    assert measured == pytest.approx(values.mean())
    np.testing.assert_allclose((low, high), (measured - error, measured + error), rtol=0.02)


def test_bootstrap_draws_whole_rows_and_repeats_itself():
    pairs = np.stack([np.arange(1.0, 9.0), 2 * np.arange(1.0, 9.0)], axis=1)

    def slope(rows):
        return rows[:, 1].sum() / rows[:, 0].sum()

    np.testing.assert_allclose(bootstrap(pairs, slope, seed=5).interval, (2.0, 2.0))
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap(values, np.mean, seed=5) == bootstrap(values, np.mean, seed=5)
    assert bootstrap(values, np.mean, seed=5) != bootstrap(values, np.mean, seed=6)


def test_bootstrap_of_no_run_is_undetermined():
    estimate = bootstrap([])
    assert claim(measured=estimate.measured, interval=estimate.interval).verdict == "undetermined"


def test_an_exact_number_is_always_decided():
    assert claim(**exact(0.75)._asdict()).verdict == "holds"
    assert claim(**exact(0.7499)._asdict()).verdict == "fails"


TEXT = ("toys/claim", "Something is so.", "TOY §1")


def test_a_claim_about_a_share_counts_instances():
    runs = np.ones((20, 3), bool)
    runs[4, 1] = False  # one run of three: the instance does not meet the condition
    counted = share_claim(*TEXT, runs.all(1), Target(">=", 0.7), expected="undetermined")
    expected = scipy.stats.binomtest(19, 20).proportion_ci(0.95, method="exact")
    assert (counted.id, counted.statement, counted.source) == TEXT
    assert (counted.measured, counted.n, counted.expected) == (0.95, 20, "undetermined")
    np.testing.assert_allclose(counted.interval, (expected.low, expected.high), atol=1e-11)
    assert counted.verdict == "holds"
    with pytest.raises(ValueError, match=r"one entry per instance, got the shape \(20, 3\)"):
        share_claim(*TEXT, runs, Target(">=", 0.7))


def test_a_claim_about_a_statistic_resamples_instances():
    # Ten runs of one instance say no more than one of them.
    values = np.random.default_rng(2).normal(1.0, 0.5, 40)
    one = bootstrap_claim(*TEXT, values, Target(">", 0.5), np.mean)
    many = bootstrap_claim(*TEXT, np.repeat(values[:, None], 10, 1), Target(">", 0.5), np.mean)
    assert one.measured == pytest.approx(values.mean())
    assert one.n == many.n == 40
    np.testing.assert_allclose(many.interval, one.interval, rtol=1e-12)
    assert bootstrap_claim(*TEXT, [1.0, 5.0, 2.0], Target(">", 0.5)).measured == 2.0
    assert bootstrap_claim(*TEXT, [], Target(">", 0.5)).verdict == "undetermined"


def test_a_claim_about_an_exact_number_keeps_what_it_is_given():
    found = exact_claim(*TEXT, 0.75, 12, Target("<=", 0.5), expected="fails")
    assert found == claim(
        measured=0.75, interval=(0.75, 0.75), n=12, target=Target("<=", 0.5), expected="fails"
    )


def test_json_has_exactly_the_fields_of_the_contract_and_comes_back():
    claims = [claim(), claim(target=Target("in", (0.1, 0.95)), expected="undetermined")]
    stored = json.loads(dumps(claims))
    fields = "id, statement, source, measured, interval, n, target, verdict, expected"
    assert ", ".join(stored[0]) == fields
    assert [entry["verdict"] for entry in stored] == ["holds", "undetermined"]
    assert loads(dumps(claims)) == claims


def test_json_holds_null_where_a_number_is_not_finite():
    unknown = claim(measured=math.nan, interval=(math.nan, math.nan), n=np.int64(0))
    text = dumps([unknown])
    assert "NaN" not in text
    assert json.loads(text)[0]["interval"] == [None, None]
    assert loads(text)[0].verdict == "undetermined"
