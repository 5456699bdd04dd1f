"""CIFAR-10 from a folder of the user's own, in its binary version. Nothing is unpickled.

The files are those of https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz: ``data_batch_1.bin``
to ``data_batch_5.bin`` and ``test_batch.bin``, each a sequence of records of one byte for the class
and 3,072 for the pixels, channel by channel and row by row (Krizhevsky, "Learning multiple layers
of features from tiny images", 2009).
"""

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from numpy.typing import DTypeLike

from phenodl.data.images import LabelledImages, standardise

CLASSES = 10
RECORD = 1 + 3 * 32 * 32
"""Bytes of a class and its image."""


class CifarError(ValueError):
    """A folder or file that does not hold CIFAR-10; the message is one line that names it."""


def cifar10(
    folder: str | Path,
    n: int | None = None,
    *,
    split: Literal["train", "test"] = "train",
    dtype: DTypeLike = np.float32,
) -> LabelledImages:
    r"""The first n images of CIFAR-10, 32 x 32 pixels in three colours.

    Each colour is standardised, to mean 0 and variance 1 over the images returned.

    Args:
        folder: that holds the binary files. Fewer of them will do, if there are images enough.
        n: number of images; all by default.
        split: ``"train"``, the files ``data_batch_*.bin`` in the order of their names, or
            ``"test"``, the file ``test_batch.bin``.
        dtype: of images and labels.

    Returns:
        Images (n, 32, 32, 3), and labels.

    Raises:
        ValueError: ``n`` is less than 1.
        CifarError: the folder is missing or holds no such file; a file is empty, truncated, or of
            another format; there are not that many images.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     record = bytes([7]) + bytes(range(256)) * 12
        ...     _ = (Path(folder) / "data_batch_1.bin").write_bytes(2 * record)
        ...     images, labels = cifar10(folder)
        >>> images.shape, labels.argmax(axis=1).tolist()
        ((2, 32, 32, 3), [7, 7])
    """
    if n is not None and n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    files, records = _files(Path(folder), split), []
    for file in files:
        records.append(_read(file))
        if n is not None and sum(map(len, records)) >= n:
            break
    table = np.concatenate(records)[:n]
    if n is not None and len(table) < n:
        raise CifarError(f"{folder}: holds {len(table)} {split} images, not the {n} asked for")
    pixels = table[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).astype(float)
    images = standardise(pixels).astype(dtype)
    return LabelledImages(images, np.eye(CLASSES, dtype=dtype)[table[:, 0]])


def _files(folder: Path, split: str) -> list[Path]:
    try:
        there = folder.is_dir()
    except OSError as error:  # such as a name that is too long for the system
        raise CifarError(f"{folder}: cannot be read ({error.strerror or error})") from error
    if not there:
        raise CifarError(f"{folder}: there is no such folder")
    pattern = {"train": "data_batch_*", "test": "test_batch*"}[split]
    files = sorted(folder.glob(f"{pattern}.bin"))
    if files:
        return files
    if any(folder.glob(pattern)):
        raise CifarError(
            f"{folder}: holds CIFAR-10's Python version, which is not read; download its binary "
            "version (cifar-10-binary.tar.gz)"
        )
    raise CifarError(f"{folder}: holds no {pattern}.bin, the files of CIFAR-10's binary version")


def _read(file: Path) -> UInt8[np.ndarray, "records bytes"]:
    try:
        raw = np.fromfile(file, np.uint8)
    except OSError as error:
        raise CifarError(f"{file}: cannot be read ({error.strerror or error})") from error
    if not raw.size:
        raise CifarError(f"{file}: is empty")
    if raw.size % RECORD:
        raise CifarError(
            f"{file}: is truncated or of another format; {raw.size} bytes are no multiple of "
            f"{RECORD}, a record of CIFAR-10's binary version"
        )
    records = raw.reshape(-1, RECORD)
    wrong = np.flatnonzero(records[:, 0] >= CLASSES)
    if wrong.size:
        raise CifarError(
            f"{file}: is of another format; record {wrong[0] + 1} has the class "
            f"{records[wrong[0], 0]}, at most {CLASSES - 1} in CIFAR-10"
        )
    return records
