"""Images that stay in the record files of a set of TensorFlow Datasets."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from robustcls._validation import InputError
from robustcls.data.files import StreamedImages
from robustcls.data.resizing import Size, fit

# A TFRecord: length (8 bytes), its checksum (4), the data, their checksum (4).
_BEFORE, _AROUND = 12, 16


@dataclass(frozen=True, eq=False)
class Records:
    """Where the examples of a split are.

    Attributes:
        files: of the split.
        file: number of each example's file, int32 [N].
        place: where the data of each example begin in its file, int64 [N].
        key: of the image in an example.
        feature: of the image.
    """

    files: tuple[str, ...]
    file: np.ndarray
    place: np.ndarray
    key: str
    feature: Any

    def image(self, number: int) -> np.ndarray:
        """Returns an example's image as it is stored, [H, W, C].

        Args:
            number: of the example.

        Raises:
            InputError: it cannot be read.
        """
        path = self.files[self.file[number]]
        try:
            example = tf.train.Example.FromString(_read(path, int(self.place[number])))
            (encoded,) = example.features.feature[self.key].bytes_list.value
            with tf.device("CPU"):
                pixels: np.ndarray = self.feature.decode_example(encoded).numpy()
        except Exception as error:  # whatever reading, parsing and decoding say
            first, *_ = str(error).splitlines() or [""]
            raise InputError(
                f"{path} cannot be read at example {number}: {type(error).__name__}: {first}. "
                "Delete its folder to prepare the set anew."
            ) from error
        return pixels


class RecordImages(StreamedImages):
    """Some images of a split, which stay in its record files.

    Args:
        records: of the split.
        numbers: of the examples, int [N].
        shape: (height, width, channels) of each image.
        size: that the images are resized to, or None.
        eight_bits: makes stored pixels uint8.
    """

    def __init__(
        self,
        records: Records,
        numbers: np.ndarray,
        shape: tuple[int, int, int],
        size: Size,
        eight_bits: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        super().__init__(len(numbers), shape)
        self._records, self._numbers, self._size = records, numbers, size
        self._eight_bits = eight_bits

    def decode(self, place: int) -> np.ndarray:
        number = int(self._numbers[place])
        pixels = self._eight_bits(self._records.image(number))
        return fit(pixels, self._size, self._one[2])


def records_of(builder: Any, split: str, image: str, label: str) -> Records | None:
    """Finds the examples of a split in its files; None unless these are TFRecords here.

    Args:
        builder: of a prepared set.
        split: its name.
        image: key of the image.
        label: key of the label.
    """
    info = builder.info.splits[split]
    paths = [Path(path) for path in info.filepaths]
    if builder.info.file_format.value != "tfrecord" or not all(path.is_file() for path in paths):
        return None
    places = [_places(path, count) for path, count in zip(paths, info.shard_lengths, strict=True)]
    if [len(found) for found in places] != list(info.shard_lengths):
        return None
    numbers = {path.name: number for number, path in enumerate(paths)}
    # The order in which TFDS reads a split goes to and fro between its files.
    order = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding({label: True}),
        read_config=tfds.ReadConfig(add_tfds_id=True),
    ).map(lambda example: example["tfds_id"])
    file = np.empty(info.num_examples, np.int32)
    place = np.empty(info.num_examples, np.int64)
    done = 0
    for names in order.batch(4096).as_numpy_iterator():
        for name in names:
            path, _, number = name.decode().rpartition("__")
            file[done] = numbers[Path(path).name]
            place[done] = places[file[done]][int(number)]
            done += 1
    feature = builder.info.features[image]
    return Records(tuple(map(str, paths)), file, place, image, feature)


def _places(path: Path, count: int) -> np.ndarray:
    """Returns where the data of each record begin, from the lengths alone."""
    places, size = np.empty(count, np.int64), path.stat().st_size
    with path.open("rb") as file:
        at = number = 0
        while at < size and number < count:
            places[number] = at + _BEFORE
            file.seek(at)
            at += struct.unpack("<Q", file.read(8))[0] + _AROUND
            number += 1
    # A file that was cut is not what was prepared.
    return places[: number if at == size else 0]


def _read(path: str, place: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        file.seek(place - _BEFORE)
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(place)
        data = file.read(length)
    if len(data) != length:
        raise EOFError("the file ends")
    return data
