"""The experiment on MNIST and CIFAR-10: it trains on what the configuration says."""

import numpy as np
import pytest
from recorders import InMemory

from experiments.errors import UserError
from experiments.spikes.mnist import run
from experiments.spikes.mnist.config import EXPERIMENT, Config

TINY = {"seeds": 2, "images": 6, "steps": 100, "products": 2, "every": 50, "shifts": 2, "window": 7}


def cifar_folder(tmp_path, count):
    rng = np.random.default_rng(0)
    records = rng.integers(0, 256, (count, 3073), np.uint8)
    records[:, 0] = np.arange(count) % 10
    (tmp_path / "data_batch_1.bin").write_bytes(records.tobytes())
    return str(tmp_path)


def test_mini_batches_of_mnist_train_and_are_judged():
    config = Config(**TINY, batch_size=3)
    recorder = InMemory()
    run.train(config, recorder)
    runs = recorder.results["adam"]

    # Small weights give outputs near 0, one of ten labels is 1: the mean square is about .1.
    assert ((runs.loss[:, 0] > 0.07) & (runs.loss[:, 0] < 0.2)).all()
    assert (runs.loss[:, -10:].mean("step") < 0.9 * runs.loss[:, :10].mean("step")).all()
    np.testing.assert_allclose(runs.threshold, 200, rtol=1e-5)
    assert runs.lambda_max.sizes == {"seed": 2, "step_50": 2}

    analysis = run.analyze(config, recorder.results)
    claims = {claim.id.removeprefix("spikes-mnist/"): claim for claim in analysis.claims}
    assert claims["spikes"].measured == 0
    for name in ("a-recall", "a-chance", "plain-hessian", "lead"):
        assert claims[name].verdict == "undetermined"
    for figure in analysis.figures.values():
        figure.draw_without_rendering()


def test_files_of_cifar_take_the_place_of_mnist(tmp_path):
    config = Config(cifar=cifar_folder(tmp_path, 8), images=7)
    images, labels = run.load(config)
    assert images.shape == (7, 32, 32, 3)
    assert labels.argmax(axis=1).tolist() == list(range(7))


@pytest.mark.parametrize("folder", ["none", ""])
def test_a_folder_without_cifar_is_a_users_mistake(tmp_path, folder):
    with pytest.raises(UserError, match=f"^{tmp_path / folder}: "):
        run.load(Config(cifar=str(tmp_path / folder)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": 5001}, "images must be at most 5000, got 5001"),
        ({"window": 8}, "window must be at most 7, got 8"),
        ({"batch_size": 51}, "batch_size must be at most 50, the number of images, got 51"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"steps": 99}, "steps must be at least 100, got 99"),
    ],
)
def test_bad_configurations_name_their_field(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Config(**changes)


def test_more_images_than_mnist_has_are_fine_from_files():
    assert Config(cifar="folder", images=50_000).images == 50_000


def test_presets_differ_in_size_alone():
    quick, paper = EXPERIMENT.presets["quick"], EXPERIMENT.presets["paper"]
    assert paper.images > quick.images
    assert paper.optimizer == quick.optimizer
