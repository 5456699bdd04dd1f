"""CIFAR-10's binary files, written here byte by byte, and files that are not what they seem."""

import numpy as np
import pytest

from phenodl.data.cifar import CifarError, cifar10

RECORD = 3073


def write(path, classes, seed=0):
    """Random images of the given classes in the binary format; returns their bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(classes), RECORD - 1), np.uint8)
    path.write_bytes(np.column_stack([np.array(classes, np.uint8), pixels]).tobytes())
    return pixels


def test_bytes_end_up_where_the_format_says(tmp_path):
    raw = write(tmp_path / "data_batch_1.bin", [3, 9])

    images, labels = cifar10(tmp_path, dtype=np.float64)

    assert images.shape == (2, 32, 32, 3)
    assert labels.argmax(axis=1).tolist() == [3, 9]
    np.testing.assert_array_equal(labels.sum(axis=1), 1)
    # The byte of image 1, colour 2, row 5, column 7, and its colour's mean and deviation.
    blue = raw[:, 2048:].astype(float)
    expected = (raw[1, 2 * 1024 + 5 * 32 + 7] - blue.mean()) / blue.std()
    assert images[1, 5, 7, 2] == pytest.approx(expected)
    np.testing.assert_allclose(images.mean(axis=(0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(images.std(axis=(0, 1, 2)), 1)


def test_files_follow_one_another_and_the_test_set_stays_apart(tmp_path):
    write(tmp_path / "data_batch_2.bin", [4, 5], seed=1)
    write(tmp_path / "data_batch_1.bin", [1, 2, 3], seed=2)
    write(tmp_path / "test_batch.bin", [8], seed=3)

    def classes(*args, **kwargs):
        return cifar10(tmp_path, *args, **kwargs).labels.argmax(axis=1).tolist()

    assert classes() == [1, 2, 3, 4, 5]
    assert classes(4) == [1, 2, 3, 4]
    assert classes(split="test") == [8]


def test_files_beyond_those_needed_are_not_read(tmp_path):
    write(tmp_path / "data_batch_1.bin", [1, 2])
    (tmp_path / "data_batch_2.bin").write_bytes(b"damaged")
    assert len(cifar10(tmp_path, 2).images) == 2


def test_single_precision_unless_asked_otherwise(tmp_path):
    write(tmp_path / "data_batch_1.bin", [0])
    assert {array.dtype for array in cifar10(tmp_path)} == {np.dtype(np.float32)}


def broken(tmp_path, kind):
    """A folder with one fault, and the path that the message has to begin with."""
    file = tmp_path / "data_batch_1.bin"
    if kind == "missing":
        return tmp_path / "none", tmp_path / "none"
    if kind == "long":
        return tmp_path / (1000 * "x"), tmp_path / (1000 * "x")
    if kind == "no files":
        return tmp_path, tmp_path
    if kind == "pickled":
        (tmp_path / "data_batch_1").write_bytes(b"\x80\x04")
        return tmp_path, tmp_path
    if kind == "a folder":
        file.mkdir()
    elif kind == "empty":
        file.touch()
    elif kind == "class":
        write(file, [1, 12])
    else:
        write(file, [1, 2])
        if kind == "truncated":
            file.write_bytes(file.read_bytes()[:-10])
    return tmp_path, tmp_path if kind == "too few" else file


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "there is no such folder"),
        ("long", "cannot be read .*too long"),
        ("no files", r"holds no data_batch_\*\.bin"),
        ("pickled", "download its binary version"),
        ("a folder", "cannot be read"),
        ("empty", "is empty"),
        ("truncated", "is truncated or of another format; 6136 bytes"),
        ("class", "record 2 has the class 12"),
        ("too few", "holds 2 train images, not the 3 asked for"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named_in_one_line(tmp_path, kind, message):
    folder, named = broken(tmp_path, kind)
    with pytest.raises(CifarError, match=message) as caught:
        cifar10(folder, 3)
    assert str(caught.value).startswith(f"{named}: ")
    assert "\n" not in str(caught.value)


def test_a_number_of_images_is_positive(tmp_path):
    with pytest.raises(ValueError, match="n must be at least 1, got 0") as caught:
        cifar10(tmp_path, 0)
    assert not isinstance(caught.value, CifarError)  # it is no fault of the folder
