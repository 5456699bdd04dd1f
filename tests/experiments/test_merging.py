"""Shards trained by themselves, and the run that they make together."""

import json
import shutil
from pathlib import Path

import jax
import pytest
import xarray as xr
from toys.checks import files, refused

import phenodl
from experiments import merging
from experiments.errors import UserError
from experiments.recorder import Recorder
from experiments.run_directory import RunDirectory
from experiments.shard import Shard
from phenodl import results

RUN = ("run", "bowls-descent", "--seeds", "7")
SHARES = [Path(f"runs/bowls-descent-{number}of3") for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, calls_in):
    """Three shards and the whole run."""
    folder = tmp_path_factory.mktemp("shards")
    with calls_in(folder) as call:
        for number in (1, 2, 3):
            assert call(*RUN, "--shard", f"{number}/3") == 0
        assert call(*RUN, "--out", "whole") == 0
    return folder


@pytest.fixture
def shards(trained, tmp_path, call):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)


def test_shards_make_the_whole_run(call, shards):
    status, output, _ = call("merge", "merged", *map(str, reversed(SHARES)))
    assert (status, "2 claims" in output) == (0, True)
    for name in ("first", "second"):
        xr.testing.assert_identical(phenodl.load("merged", name), phenodl.load("whole", name))
    for file in ("claims.json", "tables/last-losses.csv"):
        assert Path("merged", file).read_bytes() == Path("whole", file).read_bytes()
    stored = json.loads(Path("merged/config.json").read_text())
    assert stored["shard"] is None
    assert len(stored["resumed"]) == 2
    assert "--shard" not in stored["provenance"]["command"]
    before = files(Path("merged"))
    assert call("merge", "merged", *map(str, SHARES))[0] == 0
    assert files(Path("merged")) == before


def test_a_shard_holds_its_share_and_has_no_claims(call, shards):
    rows = [set(results.read_part(path).run.values) for path in results.part_paths(SHARES[1])]
    assert all(each == {1, 4} for each in rows)
    assert refused(call("analyze", str(SHARES[1])), "holds shard 2/3", "experiments merge OUT")
    status, _, error = call("resume", str(SHARES[1]))
    assert (status, "nothing is trained again" in error) == (0, True)
    assert refused(call(*RUN, "--out", str(SHARES[1])), "shard: 2/3 there, None here")


def test_a_killed_merge_is_finished_by_the_same_command(call, shards, monkeypatch):
    write = merging.parts.write
    written = []

    def die(*arguments, **options):
        written.append(write(*arguments, **options))
        if len(written) == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(merging.parts, "write", die)
        assert call("merge", "merged", *map(str, SHARES))[0] == 130
    for command in ("analyze", "resume"):
        assert refused(call(command, "merged"), "merged is half merged; repeat:")
    assert refused(call(*RUN, "--out", "merged"), "shard: merging there, None here")
    assert call("merge", "merged", *map(str, SHARES))[0] == 0
    xr.testing.assert_identical(phenodl.load("merged", "first"), phenodl.load("whole", "first"))


def another_run(call):
    assert call(*RUN[:-1], "8", "--shard", "2/3", "--out", "other")[0] == 0
    return [SHARES[0], Path("other"), SHARES[2]], "other is a shard of another run"


def another_count(call):
    assert call(*RUN, "--shard", "2/4", "--out", "other")[0] == 0
    return [SHARES[0], Path("other"), SHARES[2]], "other is a shard of another run"


def twice(call):
    shutil.copytree(SHARES[1], "copy")
    return [*SHARES, Path("copy")], "copy and runs/bowls-descent-2of3 are both shard 2/3"


def missing(call):
    return SHARES[:2], "shard 3 of 3 is missing"


def no_shard(call):
    return [SHARES[0], Path("whole")], "whole is no shard of a run"


def nothing(call):
    return [], "merge needs the directories of all shards after OUT"


def lost_part(call):
    results.part_paths(SHARES[1], "second")[-1].unlink()
    return SHARES, "bowls-descent-2of3 has lost results of second: python -m experiments resume"


def unfinished(call):
    config = SHARES[1] / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"trained": None}))
    return SHARES, "resume runs/bowls-descent-2of3"


def overlapping_rows(call):
    """A part of another shard in the place of its own, relabelled."""
    for path in results.part_paths(SHARES[0]):
        part = results.read_part(SHARES[1] / path.name)
        part.attrs |= {
            name: results.read_part(path).attrs[name] for name in ("provenance", "config")
        }
        results.write_part(path, part)
    return SHARES, "holds runs that another part holds as well"


@pytest.mark.parametrize(
    "spoil",
    [
        another_run,
        another_count,
        twice,
        missing,
        no_shard,
        nothing,
        lost_part,
        unfinished,
        overlapping_rows,
    ],
)
def test_what_does_not_make_a_run_is_refused(call, shards, spoil):
    folders, complaint = spoil(call)
    assert refused(call("merge", "merged", *map(str, folders)), complaint)
    assert not Path("merged").exists()


def test_a_directory_in_the_way_is_left_alone(call, shards):
    before = files(Path("whole"))
    assert refused(call("merge", "whole", *map(str, SHARES)), "not of these shards")
    assert files(Path("whole")) == before


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_a_shard_that_is_none_is_refused(call, shard):
    outcome = call(*RUN, f"--shard={shard}")
    assert refused(outcome, "--shard must be I/N with I from 1 to N")


@pytest.mark.parametrize("use", [lambda results: results.loss, lambda results: results["loss"]])
def test_results_of_a_share_are_withheld_from_a_later_training(tmp_path, toys, use):
    experiment = toys["bowls-descent"]
    config = experiment.presets["quick"]
    run = RunDirectory.prepare(tmp_path / "run", experiment, "quick", config, Shard(1, 2))
    recorder = Recorder(run)
    recorded = []
    recorder_of_all = recorder.train

    def train(*arguments, **options):
        recorded.append(recorder_of_all(*arguments, **options))

    recorder.train = train
    with jax.enable_x64(True):
        experiment.load().train(config, recorder)
    with pytest.raises(UserError, match="needs all results of 'first'; train it with several"):
        use(recorded[0])


def test_more_shards_than_runs_are_refused(call):
    assert refused(call(*RUN, "--shard", "8/9"), "--shard 8/9: the sweep 'first' has 7 runs only")
    assert not Path("runs").exists()
