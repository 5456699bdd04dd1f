import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from problems import gradient_descent, quadratic

from phenodl import probes, results, sweep, training
from phenodl.protocol import Layout


@pytest.fixture(scope="module")
def chunks() -> list[training.Chunk]:
    """Six runs that end at different steps, so that later chunks hold fewer of them."""
    runs = sweep.product(
        key=jax.random.key(0), seed=[10, 20], learning_rate=np.array([0.05, 0.3, 0.1])
    )
    measurements = [
        probes.loss(),
        probes.grad_norm(3),
        probes.value("theta", lambda view: view.params, emit="chunk"),
        probes.value("end", lambda view: jnp.stack([view.params, view.params**2]), emit="end"),
    ]
    return list(
        training.train(
            quadratic,
            gradient_descent,
            runs,
            steps=60,
            chunk=12,
            probes=measurements,
            stop=lambda view: view.objective.loss < 1e-2,
            layout=Layout(width=1),
        )
    )


def test_parts_on_disk_give_what_was_in_memory(tmp_path, chunks):
    for number, chunk in enumerate(chunks):
        path = results.part_path(tmp_path, "main", number)
        results.write_part(path, results.from_chunk(chunk))
    xr.testing.assert_identical(results.load(tmp_path), results.collect(chunks))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"part-main-{number:09d}.nc" for number in range(len(chunks))
    ]


def test_runs_unfold_into_the_axes_of_the_sweep(chunks):
    dataset = results.collect(chunks)
    assert dataset.loss.dims == ("seed", "learning_rate", "step")
    assert len(chunks[-1].id) < len(chunks[0].id) == 6
    for rate in dataset.learning_rate.values:
        exact = 0.5 * (1 - rate) ** (2 * np.arange(dataset.sizes["step"]))
        stop = int(dataset.stopped_at.sel(seed=20, learning_rate=rate))
        measured = dataset.loss.sel(seed=20, learning_rate=rate).values
        np.testing.assert_allclose(measured[: stop + 1], exact[: stop + 1], 1e-4)
        assert np.isnan(measured[stop + 1 :]).all()
        last = results.final(dataset.theta).sel(seed=20, learning_rate=rate)
        np.testing.assert_allclose(last, (1 - rate) ** stop, 1e-4)
    assert dataset.end.dims == ("seed", "learning_rate", "end_0")
    np.testing.assert_array_equal(dataset.end[..., 0], results.final(dataset.theta))
    np.testing.assert_array_equal(dataset.end[..., 1], results.final(dataset.theta) ** 2)


def test_trainings_in_one_directory_are_told_apart(tmp_path, chunks):
    for name in ("main", "control-2"):
        results.write_part(results.part_path(tmp_path, name, 0), results.from_chunk(chunks[0]))
    assert results.trainings(tmp_path) == ["control-2", "main"]
    xr.testing.assert_identical(results.load(tmp_path, "main"), results.collect(chunks[:1]))
    with pytest.raises(results.ResultError, match="control-2, main; name one"):
        results.load(tmp_path)


def test_a_file_that_is_no_result_is_named(tmp_path, chunks):
    with pytest.raises(results.ResultError, match="no results here"):
        results.load(tmp_path)
    path = results.part_path(tmp_path, "main", 0)
    results.write_part(path, results.from_chunk(chunks[0]))
    whole = path.read_bytes()
    for content in (b"", b"not a result", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(results.ResultError, match=f"{path.name}: damaged, truncated"):
            results.load(tmp_path)
    results.write_part(path, xr.Dataset({"x": ("run", [1.0])}))
    with pytest.raises(results.ResultError, match="holds no results of phenodl"):
        results.load(tmp_path)


def test_a_flipped_bit_is_noticed(tmp_path, chunks):
    """Anywhere: in the numbers, the names, the attributes and the checksum itself."""
    path = results.part_path(tmp_path, "main", 0)
    results.write_part(path, results.from_chunk(chunks[0]))
    whole = path.read_bytes()
    assert chunks[0].records[0].values["loss"][0].tobytes() in whole, "values lie there as they are"
    random = np.random.default_rng(0)
    for place in [*random.integers(len(whole), size=100), len(whole) - 1]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << random.integers(8)
        path.write_bytes(flipped)
        with pytest.raises(results.ResultError, match=f"{path.name}: damaged"):
            results.read_part(path)


def test_other_readers_pass_over_the_checksum(tmp_path, chunks):
    path = results.part_path(tmp_path, "main", 0)
    part = results.from_chunk(chunks[0])
    results.write_part(path, part)
    xr.testing.assert_identical(xr.load_dataset(path, engine="h5netcdf"), part)


def test_a_missing_or_foreign_part_is_noticed(chunks):
    parts = [results.from_chunk(chunk) for chunk in chunks]
    with pytest.raises(results.ResultError, match=r"starts at step 24, but .* ends at 12"):
        results.merge([parts[0], *parts[2:]])
    with pytest.raises(results.ResultError, match="another sweep or other probes"):
        results.merge([parts[0], parts[1].drop_vars("grad_norm")])
    with pytest.raises(results.ResultError, match="no results"):
        results.collect([])


def test_runs_that_took_no_part_are_marked(chunks):
    last = results.collect(chunks[-1:])
    absent = np.isin(np.arange(6), chunks[-1].id, invert=True)
    assert absent.any()
    np.testing.assert_array_equal(last.status.values.ravel() == -1, absent)


def test_a_part_says_what_its_axes_are(chunks):
    part = results.from_chunk(chunks[0])
    axes = json.loads(part.attrs["phenodl_axes"])
    assert axes == {"seed": [10, 20], "learning_rate": [0.05, 0.3, 0.1]}


def shares(chunk, splits):
    """A chunk as the parts of several processes, which hold these of its rows."""
    whole = results.from_chunk(chunk)
    return [whole.isel(run=list(split)).copy() for split in splits]


@pytest.mark.parametrize("splits", [[[0, 2, 4], [1, 3, 5]], [[5], [3, 0], [1, 2, 4]]])
def test_parts_of_several_processes_make_the_same_dataset(tmp_path, chunks, splits):
    for number, chunk in enumerate(chunks):
        rows = [[row for row in split if row < len(chunk.id)] for split in splits]
        for process, part in enumerate(shares(chunk, rows)):
            if part.sizes["run"]:
                results.write_part(results.part_path(tmp_path, "main", number, process), part)
    xr.testing.assert_identical(results.load(tmp_path), results.collect(chunks))


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([[0, 1], [3, 4, 5]], "of the chunk from step 0 1 runs are missing"),
        ([[0, 1, 2], [2, 3, 4, 5]], "of the chunk from step 0 1 runs too many"),
        ([[0, 1, 2], [2, 3, 4]], "holds runs that another part holds as well"),
    ],
)
def test_every_run_of_a_chunk_must_be_there_once(chunks, splits, message):
    with pytest.raises(results.ResultError, match=message):
        results.join(shares(chunks[0], splits))


def test_parts_of_different_chunks_are_not_joined(chunks):
    one, other = shares(chunks[0], [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(results.ResultError, match="is no part of the same chunk"):
        results.join([one, other.assign_attrs(last_step=7)])
    with pytest.raises(results.ResultError, match="is no part of the same chunk"):
        results.join([one, other.drop_vars("loss")])


@pytest.mark.parametrize(
    "name",
    ["part-a-5.nc", "part-a-000000005.0.nc", "part-a-000000005.01.nc", "part-a-٣.nc", "a.nc"],
)
def test_what_is_named_otherwise_is_no_part(name):
    assert results.PartName.parse(name) is None
