"""`load_tfds`: a set of TensorFlow Datasets, prepared when needed, read into `Splits`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from robustcls._progress import tqdm
from robustcls._validation import InputError
from robustcls.data.held_out import assign
from robustcls.data.preparing import prepare
from robustcls.data.resizing import changes, fit_all
from robustcls.data.splits import Reading, Split, Splits
from robustcls.data.storage import allocate, exceeds
from robustcls.data.tfds.lookup import (
    get_builder,
    image_and_label,
    is_prepared,
    one_line,
    quiet_tfds,
)
from robustcls.data.tfds.records import RecordImages, Records, records_of

_ID_FEATURES = ("id", "file_name", "image/filename")


def load_tfds(name: str, reading: Reading) -> Splits:
    """Reads a TFDS set, preparing it first when needed.

    Args:
        name: of the set, with or without config and version.
        reading: how.

    Raises:
        InputError: the set is unknown, holds no image and class label, cannot be prepared, or has
            images of different sizes and no size is asked for.
    """
    builder = get_builder(name, reading.data_dir)
    keys = image_and_label(builder)
    if keys is None:
        raise InputError(
            f"name must be a set with one image and one class label an example; {name} has "
            f"{', '.join(builder.info.features)}."
        )
    if not is_prepared(builder):
        prepare(name, reading.data_dir)
        builder = get_builder(name, reading.data_dir)
    try:
        with quiet_tfds():
            return _read(builder, *keys, reading)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{builder.data_path} cannot be read as a prepared set: {one_line(error)} "
            "Delete it to prepare it anew."
        ) from error


def _read(builder: Any, image: str, label: str, reading: Reading) -> Splits:
    size, channels = reading.size, reading.channels
    roles, stored, notes = _roles(builder, label)
    assignment = assign(stored, reading.validation_fraction, reading.seed)
    shape = builder.info.features[image].shape
    height, width = size or shape[:2]
    if None in (height, width):
        height, width = next(_images(builder, next(iter(roles.values())), image)).shape[1:3]
    depth = channels or (1 if shape[2] == 1 else 3)
    before: set[tuple[int, ...]] = set()
    records: dict[str, Records | None] = {}
    arrays: dict[str, Any] = {}
    for part, (role, indices) in assignment.parts.items():
        whole = (len(indices), height, width, depth)
        # Without a limit of the user's, what is too large goes to disk, and is decoded once.
        if reading.memory is not None and exceeds(whole, reading.memory):
            if role not in records:
                records[role] = records_of(builder, roles[role], image, label)
            stored_in = records[role]
            if stored_in is not None:
                arrays[part] = RecordImages(stored_in, indices, whole[1:], size, _eight_bits)
                continue
        arrays[part] = allocate(whole, reading.memory)
    for role, split in roles.items():
        wanted = [
            part
            for part, (source, _) in assignment.parts.items()
            if source == role and not isinstance(arrays[part], RecordImages)
        ]
        if not wanted and None not in shape:
            before.add(shape)
            continue
        # Where each stored image goes: which part's array, and the place in it.
        owner = np.full(len(stored[role][0]), -1)
        places = np.zeros(len(owner), np.int64)
        for number, part in enumerate(wanted):
            indices = assignment.parts[part][1]
            owner[indices], places[indices] = number, np.arange(len(indices))
        done = 0
        with tqdm(total=len(owner), desc=f"Reading {split}", delay=1, disable=None) as bar:
            for batch in _images(builder, split, image):
                if size is None and batch.shape[1:3] != (height, width):
                    raise InputError(
                        "Images must have one size unless image_size is given; "
                        f"{builder.name} has {height}x{width} and "
                        f"{batch.shape[1]}x{batch.shape[2]} (height x width)."
                    )
                before.add(batch.shape[1:])
                batch = fit_all(_eight_bits(batch), size, depth)
                here = slice(done, done + len(batch))
                for number, part in enumerate(wanted):
                    chosen = owner[here] == number
                    arrays[part][places[here][chosen]] = batch[chosen]
                done += len(batch)
                bar.update(len(batch))
    parts = {}
    for part, (role, indices) in assignment.parts.items():
        labels, ids = (array[indices] for array in stored[role])
        parts[part] = Split(arrays[part], labels, ids)
    return Splits(
        parts["train"],
        parts["validation"],
        parts["test"],
        class_names=tuple(builder.info.features[label].names),
        source="; ".join([f"TFDS {builder.info.full_name}", *notes, *assignment.notes]),
        changes=changes(before, size, channels),
    )


def _roles(
    builder: Any, label: str
) -> tuple[dict[str, str], dict[str, tuple[np.ndarray, np.ndarray]], tuple[str, ...]]:
    """Decides which TFDS split plays which role, and reads labels and ids.

    Returns:
        {role: TFDS split}, {role: (labels, ids)}, and what a report should say about it.
    """
    splits = {}
    for name in builder.info.splits:
        labels, ids = _labels_and_ids(builder, name, label)
        if len(labels) and labels.min() >= 0:  # -1 marks a split without labels
            splits[name] = labels, ids
    notes: tuple[str, ...] = ()
    roles = {role: role for role in ("train", "validation", "test") if role in splits}
    if "train" not in roles and len(splits) == 1 and "test" not in roles:
        roles = {"train": next(iter(splits))}
    if "test" not in roles and "validation" in roles:
        roles["test"] = roles.pop("validation")
        notes = ("test: the validation split",)
    if "train" not in roles and "test" not in roles:
        raise InputError(
            f"{builder.name} must have a labelled train or test split; it has "
            f"{', '.join(splits) or 'none'}."
        )
    stored = {role: splits[split] for role, split in roles.items()}
    if "train" not in stored:  # a set made for testing alone
        nothing = np.zeros(0, np.int64), np.zeros(0, "U1")
        stored |= {"train": nothing, "validation": nothing}
    return roles, stored, notes


def _labels_and_ids(builder: Any, split: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    features = dict(builder.info.features.items())
    names = [key for key in _ID_FEATURES if isinstance(features.get(key), tfds.features.Text)]
    wanted = dict.fromkeys([label, *names[:1]], True)
    dataset = builder.as_dataset(
        split=split, shuffle_files=False, decoders=tfds.decode.PartialDecoding(wanted)
    )
    labels: list[np.ndarray] = []
    ids: list[str] = []
    for batch in dataset.batch(4096).as_numpy_iterator():
        labels.append(batch[label])
        ids += [name.decode(errors="replace") for name in batch[names[0]]] if names else []
    count = sum(map(len, labels))
    ids = ids or [f"{index:06d}" for index in range(count)]
    return (
        np.concatenate([np.zeros(0, np.int64), *labels]),
        np.array([f"{split}/{name}" for name in ids], str),
    )


def _images(builder: Any, split: str, image: str) -> Iterator[np.ndarray]:
    """Yields [n, H, W, C] in stored order; n is 1 where sizes may differ."""
    dataset = builder.as_dataset(
        split=split, shuffle_files=False, decoders=tfds.decode.PartialDecoding({image: True})
    )
    one_shape = None not in builder.info.features[image].shape
    dataset = dataset.map(lambda example: example[image]).batch(256 if one_shape else 1)
    return dataset.prefetch(2).as_numpy_iterator()


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[-1] not in (1, 3) or pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(
            "Images must be uint8 or uint16 with 1 or 3 channels; received "
            f"{pixels.dtype} with {pixels.shape[-1]}."
        )
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return pixels
