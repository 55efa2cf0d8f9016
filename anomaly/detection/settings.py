"""`Configurable`: dataclasses whose fields are settings, to and from JSON's types."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from robustcls._validation import InputError, nearest
from robustcls.data.augment import AugmentationPolicy

Self = TypeVar("Self", bound="Configurable")


@dataclasses.dataclass(kw_only=True, eq=False)
class Configurable:
    """A dataclass whose constructor's arguments are its settings.

    Args:
        image_shape: (height, width, channels); the one setting that has no default.
        augmentation: an `AugmentationPolicy` that training images go through; None changes
            nothing. Default None.
    """

    method: ClassVar[str]
    #: Settings that there were, each with the value that changes nothing: it may still be given.
    former_settings: ClassVar[Mapping[str, Any]] = {}

    image_shape: tuple[int, int, int]
    augmentation: AugmentationPolicy | None = None

    def get_config(self) -> dict[str, Any]:
        """Returns the settings by name, in types that JSON holds."""
        values = {name: getattr(self, name) for name in _names(type(self))}
        values["image_shape"] = list(self.image_shape)
        if self.augmentation is not None:
            values["augmentation"] = self.augmentation.get_config()
        return values

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Returns an unfitted detector; settings left out take their defaults.

        Raises:
            InputError: an unknown, missing or out-of-range setting.
        """
        known = _names(cls)
        values = dict(config)
        for name, value in config.items():
            if name in cls.former_settings:
                if value != cls.former_settings[name]:
                    raise InputError(
                        f"{name} must be {cls.former_settings[name]!r} or left out: {cls.method} "
                        f"has it no more; received {value!r}."
                    )
                del values[name]
            elif name not in known:
                raise InputError(
                    f"settings of {cls.method} must be among {', '.join(known)}; "
                    f"received {name!r}." + nearest(name, known)
                )
        if "image_shape" not in config:
            raise InputError(f"settings of {cls.method} must have image_shape; received none.")
        if isinstance(values.get("augmentation"), Mapping):
            values["augmentation"] = AugmentationPolicy.from_config(values["augmentation"])
        return cls(**values)


def _names(cls: type[Configurable]) -> list[str]:
    return [entry.name for entry in dataclasses.fields(cls) if entry.init]
