import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from recorders import InMemory

from experiments.control import tasks
from experiments.control.interventions import figures, ledger, run, selection, tuning
from experiments.control.interventions.config import (
    ADAM,
    CONTROLLERS,
    EXPERIMENT,
    GRIDS,
    METHODS,
    OURS,
    RIVALS,
    Config,
    Settings,
)
from experiments.control.interventions.costs import cost
from experiments.control.interventions.methods import method
from experiments.control.interventions.scores import Scores, score
from experiments.control.names import TASKS
from phenodl.protocol import Objective

STEPS = 40
WITHOUT_EFFECT = {
    **dict.fromkeys([name for name in CONTROLLERS if name not in ("floor", "switch_b2")], 1e9),
    "floor": 1e-30,
    "switch_b2": 0.999,
    "stable_adamw": 1e9,
    "spam": 1e9,
    "clip_global": 1e9,
    "clip_adaptive": 1e9,
    "lower_b2": 0.999,
    "smaller_rate": 1.0,
}
"""Settings with which a method is plain Adam, to rounding."""


def descend(name, setting, loss, start, steps=STEPS):
    """The parameters along a training by one method, without the engine."""
    chosen = method(name, steps)
    hyper = {"learning_rate": 0.01, "b2": 0.999, "setting": setting}
    hyper = {key: jnp.asarray(value) for key, value in hyper.items()}

    def advance(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        params, state, _ = chosen.step(Objective(loss, value, grads), params, state, hyper)
        return (params, state), params["x"]

    first = {"x": start}
    return jax.lax.scan(advance, (first, chosen.init(first, hyper)), None, length=steps)[1]


def made(last, spikes=None, curve=None):
    """Scores of runs that end so, along (seed, setting)."""
    last = np.asarray(last, float)
    none = np.zeros(last.shape, int)
    count = none if spikes is None else np.asarray(spikes)
    whole = np.repeat(last[..., None], 8, axis=-1) if curve is None else curve
    return Scores(count, count, whole, *[last] * 6, touched=none + 0.05)


@pytest.mark.parametrize("group", [CONTROLLERS, RIVALS])
def test_a_setting_that_never_acts_leaves_plain_adam(x64, group):
    def bowl(params):
        return (jnp.array([1.0, 30.0]) * params["x"] ** 2).sum()

    start = jnp.array([1.0, -2.0])
    names = [name for name in group if name in WITHOUT_EFFECT]
    settings = [WITHOUT_EFFECT[name] for name in names]

    def all_of_them():
        each = zip(names, settings, strict=True)
        return [descend(name, setting, bowl, start) for name, setting in each]

    plain = optax.adam(0.01)
    params, state = np.array(start), plain.init(start)
    update = jax.jit(plain.update)
    expected = []
    for _ in range(STEPS):
        with jax.numpy_dtype_promotion("standard"):
            move, state = update(jnp.array([2.0, 60.0]) * params, state)
        params = params + move
        expected.append(params)
    for name, path in zip(names, jax.jit(all_of_them)(), strict=True):
        np.testing.assert_allclose(path, np.array(expected), rtol=1e-9, err_msg=name)


def test_rates_of_amsgrad_and_of_the_schedule(x64):
    def slope(params):
        return params["x"].sum()  # a constant gradient: Adam moves by its learning rate

    @jax.jit
    def paths():
        start = jnp.zeros(1)
        return [descend(name, 0.5, slope, start) for name in ("schedule", "amsgrad")]

    scheduled, amsgrad = (-np.diff(np.append(0, path)) for path in paths())
    rise = np.arange(STEPS) / 4
    fall = (1 + np.cos(np.pi * (np.arange(STEPS) - 4) / 36)) / 2
    np.testing.assert_allclose(
        scheduled, 0.005 * np.where(np.arange(STEPS) < 4, rise, fall), rtol=1e-5, atol=1e-12
    )
    np.testing.assert_allclose(amsgrad, np.full(STEPS, 0.005), rtol=1e-5)


def test_scores_are_read_off_the_curves():
    steps, floor = 400, 0.25
    loss = np.full((2, 1, steps), 1.0 + floor)
    loss[0, 0, 100:110] = 100 + floor  # two decades
    loss[0, 0, 200:210] = 10**0.2 + floor  # a fifth of one
    loss[0, 0, 300:] = 0.5 + floor
    loss[1, 0, 350:] = np.nan
    runs = xr.Dataset(
        {
            "loss": (("seed", "setting", "step"), loss),
            "unseen_loss": (("seed", "setting", "step_8"), np.arange(100.0).reshape(2, 1, 50)),
            "corrected": (("setting", "seed"), np.array([[20, 40]])),
        }
    )
    chosen = tasks.task("sine")._replace(floor=floor, window=1)
    found = score(runs, chosen, cost=2.0)
    assert found.spikes.tolist() == [[1], [1]]  # to diverge counts as one
    assert found.small_spikes.tolist() == [[2], [1]]
    np.testing.assert_allclose(found.quarter[:, 0], 1)
    np.testing.assert_allclose(found.last[:, 0], [0.5, 1e12])
    np.testing.assert_allclose(found.best[:, 0], [0.5, 1])
    np.testing.assert_allclose(found.same_time, found.half)
    np.testing.assert_allclose(found.half, 1)
    assert found.unseen.tolist() == [[49], [99]]
    assert found.touched.tolist() == [[0.05], [0.1]]

    smooth = score(runs, chosen._replace(window=10))
    np.testing.assert_allclose(smooth.last[0], 0.5)
    np.testing.assert_allclose(smooth.curve[0, 0, 104], 1 + 99 / 2)
    assert np.isnan(score(runs.drop_vars("corrected"), chosen).touched).all()


def test_fewer_missed_goals_come_first_and_no_task_decides_alone():
    adam = {"sine": made([[1.0], [1.0]], [[9], [9]]), "language": made([[1.0]], [[10]])}
    scores = {
        "sine": made([[1e-6, 0.5, 0.2], [1e-6, 0.5, 0.2]], [[0, 0, 0], [1, 0, 0]]),
        "language": made([[1.0, 2.0, 100.0]], [[1, 1, 1]]),
    }
    ranked = selection.rank(scores, adam)
    assert ranked.missed.tolist() == [1, 0, 0]
    np.testing.assert_allclose(ranked.loss, np.sqrt([0.1, 1.0, 2.0]))
    assert ranked.best == 1
    often = scores["sine"]._replace(touched=np.array([[0.1, 0.13, 0.1]] * 2))
    ranked = selection.rank(scores | {"sine": often}, adam)
    assert (ranked.missed.tolist(), ranked.best) == ([1, 1, 0], 2)
    found = {"one": {"sine": made([[3.0]])}, "two": {"sine": made([[2.0]])}}
    assert selection.best_method(found, list(found), {"sine": made([[1.0]])}) == "two"


def test_tuning_names_the_settings_that_the_rule_would_not_choose():
    config = Config(tasks=("sine",), methods=(ADAM, OURS, "smaller_rate"), tuning=True)
    found = {
        ADAM: {"sine": made([[1.0]])},
        OURS: {"sine": made([[2.0, 2.0, 2.0]], [[1, 0, 1]])},
        "smaller_rate": {"sine": made([[3.0, 3.0, 3.0]], [[0, 0, 0]])},
    }
    best = GRIDS["smaller_rate"][0]
    kept = Settings(**{OURS: GRIDS[OURS][1], "smaller_rate": best})
    (agreed,) = tuning.claims(dataclasses.replace(config, settings=kept), found)
    assert (agreed.measured, agreed.verdict) == (0, "holds")
    other = Settings(**{OURS: GRIDS[OURS][0], "smaller_rate": best})
    (changed,) = tuning.claims(dataclasses.replace(config, settings=other), found)
    assert (changed.measured, changed.verdict) == (1, "fails")
    assert OURS in changed.statement
    chosen = [(row["method"], row["setting"]) for row in tuning.rows(found) if row["chosen"]]
    assert chosen == [(OURS, GRIDS[OURS][1]), ("smaller_rate", best)]


def test_methods_that_are_left_out_on_minibatches():
    methods = (ADAM, OURS, "scale")
    config = Config(tasks=("sine", "language"), methods=methods, minibatch_methods=(ADAM, OURS))
    assert config.methods_of("sine") == methods
    assert config.methods_of("language") == (ADAM, OURS)
    found = {name: {"sine": made([[1.0]]), "language": made([[1.0]])} for name in (ADAM, OURS)}
    found["scale"] = {"sine": made([[1.0]])}
    assert [row["method"] for row in ledger.rows("language", found)] == [ADAM, OURS]
    shown = [text.get_text() for text in figures.overview(config, found).axes[0].texts]
    assert len(shown) == 5


def test_prevented_spikes():
    found = ledger.prevented(np.zeros(5, int), np.ones(5, int))
    assert found.measured == 1
    np.testing.assert_allclose(found.interval, (0.025**0.2, 1), rtol=1e-12)  # no failure in five
    assert ledger.prevented(np.array([1, 0]), np.array([2, 2])).measured == 0.75
    assert ledger.prevented(np.array([4]), np.array([2])).measured == -1


def test_claims_follow_the_scores():
    seeds, config = 16, Config(tasks=("sine", "sequence"), methods=(ADAM, OURS, "amsgrad"))
    ones = np.ones((seeds, 1))

    def verdicts(ours, rival, spikes):
        found = {
            ADAM: {task: made(ones, 4 * ones.astype(int)) for task in config.tasks},
            OURS: {task: made(ours * ones, spikes * ones.astype(int)) for task in config.tasks},
            "amsgrad": {task: made(rival * ones) for task in config.tasks},
        }
        claims = ledger.claims(config, found)
        return {claim.id.removeprefix(f"{EXPERIMENT.name}/"): claim.verdict for claim in claims}

    good, bad = verdicts(0.9, 1.0, spikes=0), verdicts(1.5, 1.0, spikes=4)
    assert set(good.values()) == {"holds"}
    assert set(good) == {
        *(f"{task}-{of}" for task in config.tasks for of in ("spikes", "touched", "loss")),
        "best-rival",
        "every-rival",
    }
    touched = {f"{task}-touched" for task in config.tasks}
    assert {name for name, verdict in bad.items() if verdict == "fails"} == set(bad) - touched


def test_share_of_tasks_won_against_one_rival_or_the_lowest_of_two():
    last = np.array([[1.0], [4.0]])  # a geometric mean of 2
    found = {
        OURS: {"sine": made(last), "deep": made(last)},
        "amsgrad": {"sine": made(1.5 * last), "deep": made(1.5 * last)},
        "spam": {"sine": made(2 * last), "deep": made(last / 2)},
    }
    assert ledger.share_of_tasks_won(found, ["amsgrad"]) == (1, (1, 1))
    assert ledger.share_of_tasks_won(found, ["amsgrad", "spam"]) == (0.5, (0.5, 0.5))
    # The rival's seeds are the other way round: who wins depends on the draw.
    found["amsgrad"]["deep"] = made(1.01 * last[::-1])
    low, high = ledger.share_of_tasks_won(found, ["amsgrad"]).interval
    assert (low, high) == (0.5, 1)


@pytest.fixture(scope="module")
def small():
    """A short training of two seeds, and its analysis."""
    config = Config(tasks=("sine",), methods=(ADAM, OURS, "smaller_rate"), seeds=2, first_seed=1000)
    whole = tasks.task("sine")
    recorder = InMemory()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tasks, "task", lambda name: whole._replace(steps=200))
        run.train(config, recorder)
        return config, recorder.results, run.analyze(config, recorder.results)


def test_trainings_hold_what_the_analysis_reads(small):
    config, results, analysis = small
    assert sorted(results) == ["sine-adam", "sine-guarded", "sine-smaller-rate"]
    for name, runs in results.items():
        assert dict(runs.loss.sizes) == {"seed": 2, "setting": 1, "step": 200}
        assert runs.unseen_loss.sizes["step_4"] == run.LOOKS
        assert ("corrected" in runs) == (name == "sine-guarded")
    first = [runs.loss.values[:, 0, 0].tolist() for runs in results.values()]
    assert first[0] == first[1] == first[2]  # the same start
    table = {row["method"]: row for row in analysis.tables["sine"]}
    for name in config.methods:
        losses = results[run.training_name("sine", name)].loss.values[:, 0]
        expected = math.exp(np.log(losses[:, -1]).mean())
        np.testing.assert_allclose(table[name]["loss, end"], expected, rtol=1e-5)
    assert {claim.n for claim in analysis.claims} == {2}
    assert all(fig.axes for fig in analysis.figures.values())


def test_the_held_out_loss_is_that_of_the_points_between(small):
    _, results, _ = small
    chosen = tasks.task("sine")
    seen, unseen = chosen.problem.data["inputs"], chosen.unseen["inputs"]
    between = (np.asarray(seen)[0, 1:] + np.asarray(seen)[0, :-1]) / 2
    np.testing.assert_allclose(np.asarray(unseen)[0], between, atol=1e-6)
    runs = results["sine-adam"]
    both = runs.loss.values[:, 0, ::4], runs.unseen_loss.values[:, 0]
    np.testing.assert_allclose(both[1][:, 0], both[0][:, 0], rtol=0.05)  # smooth at first


def test_every_method_has_a_setting_from_its_grid():
    assert set(GRIDS) == set(METHODS) - {ADAM}
    assert set(CONTROLLERS) | set(RIVALS) | {ADAM} == set(METHODS)
    settings = Settings()
    assert all(getattr(settings, name) in grid for name, grid in GRIDS.items())
    config = EXPERIMENT.presets["tuning"]
    assert run.values(config, "spam") == list(GRIDS["spam"])
    assert not set(run.seeds(config, "sine")) & set(run.seeds(Config(), "sine"))
    assert all(cost(task, name) > 0.5 for task in TASKS for name in METHODS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": ("sine", "sin")}, "tasks must be some of sine, frequent"),
        ({"tasks": ()}, "tasks must be some of .* got none"),
        ({"methods": (ADAM, ADAM)}, "methods must be some of .* each once"),
        ({"methods": (OURS,)}, "methods must be with adam"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"first_seed": -1}, "first_seed must be in"),
    ],
)
def test_bad_configurations(wrong, message):
    with pytest.raises(ValueError, match=message):
        Config(**wrong)


def test_bad_settings():
    with pytest.raises(ValueError, match="lower_b2 must be in"):
        Settings(lower_b2=1.5)
    with pytest.raises(ValueError, match="scale must be in"):
        Settings(scale=0.0)
