"""`contact_sheet`: a picture of a set, one row a class, with what augmentation makes of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from robustcls._settings import NonNegativeInt, PositiveInt, checked
from robustcls._validation import InputError
from robustcls.data.splits import Splits
from robustcls.runs import atomic

_TILE = 72
_GAP = 4
_MARGIN = 150
_HEADER = 24


@checked
def contact_sheet(
    splits: Splits,
    path: str | os.PathLike[str],
    *,
    policy: Callable[..., Any] | None = None,
    images_per_class: PositiveInt = 5,
    max_classes: PositiveInt = 20,
    seed: NonNegativeInt = 0,
) -> Path:
    """Writes a PNG with training images of each class, and their augmented twins beside them.

    Args:
        splits: the set.
        path: the PNG to write; its folder is made when missing.
        policy: `policy(images, seed=seed)` on float32 [N, H, W, C] in [0, 1], such as an
            `AugmentationPolicy`; None shows the originals alone (default None).
        images_per_class: at most that many, drawn at random (int >= 1, default 5).
        max_classes: rows; of more classes that many are drawn at random (int >= 1, default 20).
        seed: seed of both draws and of the augmentation (int >= 0, default 0).

    Returns:
        `path`.

    Raises:
        InputError: a path that does not end in .png or cannot be written, a number below 1, or a
            set without training images.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"path must end in .png; received {os.fspath(path)!r}.")
    if not len(splits.train):
        raise InputError("splits must have training images to show; received none.")

    random = np.random.default_rng(seed)
    present = np.unique(splits.train.labels)
    classes = np.sort(random.choice(present, min(max_classes, len(present)), replace=False))
    rows = []
    for label in classes:
        members = np.flatnonzero(splits.train.labels == label)
        count = min(images_per_class, len(members))
        rows.append(np.sort(random.choice(members, count, replace=False)))
    chosen = splits.train.take(np.concatenate(rows))
    blocks = [("original", chosen.images)]
    if policy is not None:
        augmented = np.asarray(policy(chosen.float_images(), seed=(seed, 0)))
        blocks.append(("augmented", np.round(augmented * 255).astype(np.uint8)))

    columns = max(map(len, rows))
    cell = _TILE + _GAP
    block_width = columns * cell + 2 * _GAP
    sheet = Image.new(
        "RGB", (_MARGIN + len(blocks) * block_width, _HEADER + len(rows) * cell), "white"
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for number, (title, images) in enumerate(blocks):
        left = _MARGIN + number * block_width
        draw.text((left, 4), title, "black", font)
        done = 0
        for row, members in enumerate(rows):
            for column in range(len(members)):
                corner = (left + column * cell, _HEADER + row * cell)
                sheet.paste(_tile(images[done]), corner)
                done += 1
    for row, label in enumerate(classes):
        name = splits.class_names[label]
        while draw.textlength(name, font) > _MARGIN - 2 * _GAP:
            name = name[:-2] + "…"
        draw.text((_GAP, _HEADER + row * cell + _TILE // 2 - 8), name, "black", font)
    with atomic(path) as temporary:
        sheet.save(temporary, "PNG")
    return path


def _tile(image: np.ndarray) -> Image.Image:
    """Fits an image into a square tile: whole multiples when enlarged, so pixels stay visible."""
    picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0]).convert("RGB")
    scale = _TILE / max(picture.size)
    scale = int(scale) if scale >= 1 else scale
    size = [max(1, round(side * scale)) for side in picture.size]
    method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BILINEAR
    tile = Image.new("RGB", (_TILE, _TILE), "white")
    tile.paste(picture.resize((size[0], size[1]), method))
    return tile
