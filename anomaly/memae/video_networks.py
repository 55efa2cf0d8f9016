"""MemAE's network for clips of video."""

from __future__ import annotations

from typing import Any

import keras

from anomaly.detection.layers import NORM_MOMENTUM
from anomaly.memae.memory import ItemCount, MemoryModule, Shrinkage
from robustcls._settings import PositiveFloat, checked
from robustcls._validation import InputError
from robustcls.models.reproducible import finish

#: Filters and (time, height, width) strides of the encoder's 3×3×3 convolutions.
STAGES = ((96, (1, 2, 2)), (128, (2, 2, 2)), (256, (2, 2, 2)), (256, (2, 2, 2)))


@checked
def build_video_memae(
    clip_shape: tuple[int, int, int, int] = (16, 256, 256, 1),
    *,
    items: ItemCount = 2000,
    shrinkage: Shrinkage = 0.0025,
    width: PositiveFloat = 1.0,
    seed: int = 0,
) -> keras.Model:
    """Returns MemAE for clips: [N, T, H, W, C] in [0, 1] to a dictionary.

    `reconstruction` is the clip given back, unbounded, `addresses` [N, T/8, H/16, W/16, items] of
    the memory, `code` the features before it. Every position is a query. `MemoryReconstruction`
    trains it (Adam, 1e-4; entropy weight 0.0002).

    Args:
        clip_shape: (frames, height, width, channels); frames in eights, sides in sixteens (default
            (16, 256, 256, 1)).
        items: items in the memory (int >= 2, default 2000).
        shrinkage: λ of `MemoryModule` (float in [0, 1), default 0.0025).
        width: multiplies the filters; 1.0 is the paper's network (float > 0, default 1.0).
        seed: of the weights (int, default 0).

    Raises:
        InputError: a setting out of range.

    Reference: Gong et al., 2019, "Memorizing Normality to Detect Anomaly: Memory-augmented Deep
    Autoencoder for Unsupervised Anomaly Detection", section 4.2.
    """
    frames, height, side, channels = clip_shape
    if frames < 8 or frames % 8 or height < 16 or height % 16 or side < 16 or side % 16:
        raise InputError(
            "clip_shape must be (frames, height, width, channels) with frames in eights and sides "
            f"in sixteens; received {clip_shape!r}."
        )
    filters = [max(1, round(width * count)) for count, _ in STAGES]
    clips = keras.Input(clip_shape, dtype="float32", name="clips")
    x = clips
    for number, (count, (_, stride)) in enumerate(zip(filters, STAGES, strict=True), 1):
        name = f"encoder_{number}"
        x = keras.layers.Conv3D(count, 3, stride, "same", use_bias=False, name=name)(x)
        x = _active(x, name)
    read, addresses = MemoryModule(items, shrinkage, name="memory")(x)
    outputs: dict[str, Any] = {"addresses": addresses, "code": x}
    x = read
    for number in reversed(range(len(STAGES))):
        name, last = f"decoder_{number + 1}", number == 0
        x = keras.layers.Conv3DTranspose(
            channels if last else filters[number - 1],
            3,
            STAGES[number][1],
            "same",
            use_bias=last,
            name=name,
        )(x)
        x = x if last else _active(x, name)
    return finish(keras.Model(clips, {**outputs, "reconstruction": x}), seed)


def _active(x: Any, name: str) -> Any:
    x = keras.layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
    return keras.layers.LeakyReLU(negative_slope=0.2, name=f"{name}_relu")(x)
