import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorders import InMemory

from experiments.claims import Target
from experiments.completion.data import figures, run
from experiments.completion.data.comparisons import compare
from experiments.completion.data.config import EXPERIMENT, Config, Photograph
from experiments.completion.data.early_stopping import patience, watched
from experiments.completion.data.observations import summary, table
from experiments.completion.data.outcome import Path, measure
from experiments.completion.data.photograph import grey
from experiments.completion.data.task import Part, load
from experiments.errors import UserError
from phenodl import sweep, training
from phenodl.optim import flow
from phenodl.protocol import Layout, Problem
from phenodl.results import collect

PICTURE = Config(photograph=Photograph(height=16, observed=0.5), seed=1)
FILE = Config(seed=2, held_out=0.15, center=False, comparison_limit=0, steps=200, init_std=1e-12)


def rank_one(shape):
    rng = np.random.default_rng(3)
    return np.outer(rng.uniform(1, 2, shape[0]), rng.uniform(1, 2, shape[1]))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "gaps.csv"
    matrix = rank_one((12, 10))
    matrix[np.random.default_rng(4).random(matrix.shape) < 0.3] = np.nan
    np.savetxt(path, matrix, delimiter=",")
    return path


@pytest.fixture(scope="module")
def picture_run():
    with jax.enable_x64(True):
        recorder = InMemory()
        run.train(PICTURE, recorder)
        yield recorder.results


@pytest.fixture(scope="module")
def file_run(file):
    with jax.enable_x64(True):
        recorder = InMemory()
        run.train(dataclasses.replace(FILE, file=str(file)), recorder)
        yield recorder.results


def facts(task):
    return {row["what"]: row["value"] for row in table(task)}


def test_the_photograph_is_divided_once():
    task = load(PICTURE)
    picture = grey("china", 16)
    assert task.shape == picture.shape == (16, 24)
    parts = (task.train, task.stop, task.test)
    assert [len(part.value) for part in parts] == [173, 19, 192]
    places = np.concatenate([part.row * 24 + part.column for part in parts])
    assert np.unique(places).size == picture.size
    for part in parts:
        values = task.offset + task.scale * part.value
        np.testing.assert_allclose(values, picture[part.row, part.column], rtol=1e-13)
    assert np.mean(task.train.value) == pytest.approx(0, abs=1e-13)
    assert np.mean(task.train.value**2) == pytest.approx(1)


def test_a_file_keeps_its_entries_and_says_which_rows_are_empty(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("1,1,5\n1,2,4\n2,1,3\n3,3,2\n3,4,1\n4,4,2\n")
    task = load(Config(file=str(path), held_out=0.2, seed=0))
    parts = (task.train, task.stop, task.test)
    assert [len(part.value) for part in parts] == [4, 1, 1]
    values = np.concatenate([task.offset + task.scale * part.value for part in parts])
    np.testing.assert_allclose(np.sort(values), [1, 2, 2, 3, 4, 5])
    found = facts(task)
    assert found["rows without training entries"] == 0
    assert found["columns without training entries"] == 2
    assert found["test entries in such rows or columns"] == 1
    assert found["components"] == 2
    assert found["connectivity"] == "complete bipartite"
    assert found["bias to expect"] == "low nuclear norm"
    assert summary(task, Config(comparison_limit=15)) == [
        "ratings.csv: read as a list of 6 entries (0 repeats merged); otherwise pass"
        " --layout matrix",
        "ratings.csv: 4 x 4, 4 entries to train on",
        "2 components, complete bipartite: expect low nuclear norm",
        f"0 rows and 2 columns have no entry to train on and are predicted as {task.offset:g}",
        "16 entries are too many for the convex solution and a large start"
        " (--comparison-limit 15); going on without them",
    ]
    assert len(summary(task, Config(comparison_limit=16))) == 4


def test_it_is_said_as_what_a_file_was_read(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("1,2,5\n2,1,3\n1,2,5\n2,2,4\n")
    said = summary(load(Config(file=str(path), center=False)), Config())
    assert said[0] == (
        "table.csv: read as a list of 3 entries (1 repeats merged); otherwise pass --layout matrix"
    )
    said = summary(load(Config(file=str(path), layout="matrix")), Config())
    assert said[0] == "table.csv: read as a matrix 4 x 3 with 12 entries"


def test_a_small_start_beats_the_comparisons_on_the_photograph(x64, picture_run, tmp_path):
    analysis = run.analyze(PICTURE, picture_run)
    claims = {claim.id.removeprefix(f"{EXPERIMENT.name}/"): claim for claim in analysis.claims}
    assert set(claims) == {"mean", "large-start", "convex", "effective-rank", "one-by-one"}
    rows = {row["solution"]: row for row in analysis.tables["solutions"]}
    small, convex = rows["small start"], rows["least nuclear norm"]
    task = load(PICTURE)
    assert rows["mean"]["training error"] == pytest.approx(task.scale)
    assert convex["training error"] < 1e-4 * task.scale
    ratio = small["held-out error"] / convex["held-out error"]
    assert claims["convex"].measured == pytest.approx(ratio)
    compared = {row["comparison"]: row["measured"] for row in analysis.tables["comparisons"]}
    last = rows["small start, last step"]
    ratio = last["held-out error"] / convex["held-out error"]
    name = "held-out error, small start, last step / least nuclear norm"
    assert compared[name] == pytest.approx(ratio)
    assert last["training error"] < small["training error"]
    assert compared["relative gap of the least nuclear norm, at most"] < 1e-4
    assert claims["large-start"].verdict == "holds"
    assert set(analysis.figures) == {"history", "singular-values", "photograph"}
    for name, figure in analysis.figures.items():
        figure.savefig(tmp_path / f"{name}.png")


def test_what_is_stored_is_the_matrix_at_the_held_out_minimum(x64, picture_run):
    task = load(PICTURE)
    outcome = measure(task, PICTURE, picture_run["descent"])
    path = outcome.path
    assert outcome.small.errors[1] == pytest.approx(path.stop[path.best_step])
    assert outcome.small.errors[2] == pytest.approx(path.test[path.best_step])
    assert path.stop[path.best_step] <= (1 + 1e-4) * path.stop.min()
    spectrum = np.linalg.svd(outcome.small.W, compute_uv=False)
    np.testing.assert_allclose(path.singular_values[path.best_step], spectrum, atol=1e-12)
    share = spectrum / spectrum.sum()
    entropy = -np.sum(share * np.log(share, where=share > 0, out=np.zeros_like(share)))
    assert path.effective_rank[path.best_step] == pytest.approx(np.exp(entropy))


def test_a_matrix_of_rank_one_is_recovered_from_a_file_and_a_tiny_start(
    x64, file, file_run, capsys
):
    config = dataclasses.replace(FILE, file=str(file))
    task = load(config)
    outcome = measure(task, config, file_run["descent"])
    truth = rank_one((12, 10))
    assert outcome.small.rank == 1
    assert np.abs(outcome.small.W - truth).max() < 1e-2
    analysis = run.analyze(config, file_run)
    assert not analysis.claims  # nothing is known of a user's data beforehand
    mean, _ = analysis.tables["comparisons"]
    assert mean["low"] < mean["measured"] < mean["high"] < 0.1
    assert mean["n"] == np.unique(task.test.row).size >= 8
    assert "held-out error, small start / zero: " in capsys.readouterr().err
    assert "photograph" not in analysis.figures


def test_few_rows_decide_nothing(x64, file, file_run):
    config = dataclasses.replace(FILE, file=str(file))
    task = load(config)
    outcome = measure(task, config, file_run["descent"])
    few = task._replace(test=Part(*(part[task.test.row < 4] for part in task.test)))
    mean = compare(few, outcome)["mean"]
    assert mean.estimate.measured < 0.1
    assert Target("<", 1.0).verdict(mean.estimate.interval) == "undetermined"
    assert str(mean).endswith(f"(too few rows for an interval: {mean.n})")


def test_a_training_of_one_step_is_drawn(x64, file, file_run):
    config = dataclasses.replace(FILE, file=str(file))
    task = load(config)
    outcome = measure(task, config, file_run["descent"])
    path = outcome.path
    first = {name: part[:1] for name, part in path._asdict().items() if name != "best_step"}
    short = Path(best_step=0, **first)
    drawn = outcome._replace(path=short)
    for figure in (figures.history(task, drawn), figures.singular_values(drawn)):
        figure.canvas.draw()


def test_data_that_have_changed_are_not_analyzed(file, file_run, tmp_path):
    changed = tmp_path / "changed.csv"
    changed.write_text(file.read_text().replace("nan", "1.0", 1))
    with pytest.raises(UserError, match=r"changed.csv has changed since it was trained on"):
        run.analyze(dataclasses.replace(FILE, file=str(changed)), file_run)
    with pytest.raises(UserError, match=r"gone.csv: cannot be read \(No such file"):
        run.analyze(dataclasses.replace(FILE, file=str(tmp_path / "gone.csv")), file_run)
    mixed = file_run["descent"].copy(deep=True)
    assert mixed.digest.sizes["step_chunk"] > 1
    mixed.digest[{"step_chunk": 0}] = 0
    with pytest.raises(UserError, match=r"gaps.csv was changed while it was trained on"):
        run.analyze(dataclasses.replace(FILE, file=str(file)), {"descent": mixed})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2,3\n1,3,x\n", "line 2, column 3: a value must be a number, got 'x'"),
        ("1,2,3\n1,3,4\n", "at least 3 entries are needed"),
        ("1,2,3\n20000,1,1\n", "at least 3 entries"),
        ("1,2,3\n2,1,3\n1,1,3\n2,2,3\n", r"training entries \(2\) are all 3, nothing is to learn"),
        ("", "is empty"),
    ],
)
def test_bad_files_are_the_users(tmp_path, text, said):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    recorder = InMemory()
    with pytest.raises(UserError, match=said):
        run.train(Config(file=str(path)), recorder)
    assert recorder.results == {}


def test_a_matrix_that_is_too_large_is_refused(tmp_path):
    path = tmp_path / "large.npz"
    np.savez(path, row=[0, 1, 2], column=[3, 4, 5], value=[1, 2, 3], shape=[100_000, 100_000])
    with pytest.raises(UserError, match="100000 x 100000 is too large"):
        load(Config(file=str(path)))


def test_patience_waits_for_a_multiple_of_the_time_to_the_minimum(x64):
    problem = Problem(
        init=lambda key, data, hyper: jnp.array(0.0), loss=lambda theta, batch: 1000.0 - theta
    )
    # θ is the step: the error stands still until 100, falls until 140, and rises.
    method = watched(
        flow.gradient_descent(lambda *_: jnp.array(1.0)),
        lambda theta: jnp.minimum(jnp.abs(theta - 140.0), 40.0) + 1,
    )
    chunks = training.train(
        problem,
        method,
        sweep.product(key=jax.random.key(0)),
        steps=500,
        stop=patience(2.0),
        layout=Layout(width=1),
    )
    assert int(collect(chunks).stopped_at) == 140 + 280


def test_a_run_that_only_gets_worse_ends_when_it_fits(x64):
    problem = Problem(
        init=lambda key, data, hyper: jnp.array(1.0), loss=lambda theta, batch: theta**2 / 2
    )
    # θ halves at each step, and the loss is a quarter: below 1e-4 of the first at step 7.
    method = watched(flow.gradient_descent(lambda *_: jnp.array(0.5)), lambda theta: 2 - theta)
    chunks = training.train(
        problem,
        method,
        sweep.product(key=jax.random.key(0)),
        steps=20,
        stop=patience(2.0),
        layout=Layout(width=1),
    )
    assert int(collect(chunks).stopped_at) == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("held_out", 0.5),
        ("held_out", float("nan")),
        ("inner_width", 0),
        ("init_std", 0.0),
        ("large_std", 1e-5),
        ("patience", 0.0),
        ("steps", 0),
        ("comparison_limit", -1),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(Config(), **{field: value})


@pytest.mark.parametrize(("field", "value"), [("height", 4), ("observed", 1.0)])
def test_bad_fields_of_the_photograph_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Photograph(**{field: value})
