import jax
import numpy as np

from benchmarks import control
from experiments.control import tasks
from experiments.control.interventions.config import ADAM, METHODS, OURS
from experiments.control.names import FREQUENT, TASKS


def test_every_training_and_known_methods_are_timed():
    assert tuple(control.SIZES) == TASKS
    assert set(control.MEASURED) <= {*METHODS, control.FLAT}
    assert {ADAM, OURS} <= set(control.MEASURED)
    references = {row.reference for row in control.ROWS}
    assert references == {control.MEASURED[ADAM]}


def test_a_side_trains_the_task_under_its_method(monkeypatch):
    """What is timed are whole steps of all seeds, from the start that all methods share."""
    chunks = []
    train = control.timing.training.train

    def watched(*arguments, **options):
        for chunk in train(*arguments, **options):
            chunks.append(chunk)
            yield chunk

    monkeypatch.setattr(control.timing.training, "train", watched)
    with jax.enable_x64(tasks.task(FREQUENT).x64):
        sides = control.sides(FREQUENT, [ADAM, "clip_global"], control.Size(3, 4, "µs"), rounds=1)
        assert [side() for side in sides.values()] == [3 * 4, 3 * 4]
        assert [side() for side in sides.values()] == [3 * 4, 3 * 4]
    (plain, clipped), (plain_later, _) = chunks[:2], chunks[2:]
    assert plain_later.first_step == plain.last_step == 4
    plain, clipped = (chunk.records[0].values["loss"] for chunk in (plain, clipped))
    np.testing.assert_array_equal(plain[:, 0], clipped[:, 0])
    assert (plain[:, 3] != clipped[:, 3]).all()
