"""Robust weights in one line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import keras

from robustcls._validation import InputError
from robustcls.models.building import load_classifier
from robustcls.models.zoo.cards import read_card


def load_pretrained(name: str, folder: Path | str | None = None) -> keras.Model:
    """Loads a robust model of the package, or of another zoo.

    Args:
        name: as `robustcls zoo list` prints it.
        folder: where `robustcls zoo enter` put it; None is the package's own zoo (Path, str or
            None, default None).

    Returns:
        A model of images, float32 [N, H, W, C] in [0, 1], to logits, not compiled; one of a
        folder takes and returns what it did before it was entered.

    Raises:
        InputError: there is no such model, or its file is not the one on its card.

    Example:
        >>> model = load_pretrained("fashion_mnist_mini_linf_0.1_ibp")
    """
    card = read_card(name, folder)
    digest = hashlib.sha256(card.weights.read_bytes()).hexdigest()
    if digest != card.sha256:
        raise InputError(
            f"{card.weights} must be the file on its card, SHA-256 {card.sha256[:12]}; "
            f"received {digest[:12]}. Was it changed?"
        )
    return load_classifier(card.weights)
