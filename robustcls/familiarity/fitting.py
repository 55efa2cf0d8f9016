"""`fit`: a measure of familiarity from a classifier's own training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustcls._settings import NonNegativeInt, PositiveInt, Rate, checked
from robustcls._user_code import called
from robustcls._validation import InputError, check_labels
from robustcls.classifiers.classifier import Classifier
from robustcls.classifiers.ranges import InputRange, Preprocess
from robustcls.data.pipeline import arrays_of
from robustcls.data.splits import Split, Splits
from robustcls.evaluation.conformal import conformal_threshold, smallest_sample
from robustcls.evaluation.prediction import floats, prepared, subset
from robustcls.familiarity.familiarity import Familiarity
from robustcls.familiarity.features import Features, features_of
from robustcls.familiarity.method import FamiliarityMethod, Known
from robustcls.familiarity.neighbors import MOST, TrainingImages, unit
from robustcls.familiarity.registry import METHODS

_HELD_OUT = 0.1
_PROBES = 4


@checked
def fit(
    model: Any,
    data: Splits | Split | tuple[np.ndarray, np.ndarray] | Any,
    *,
    method: str | FamiliarityMethod = "vim",
    false_alarm_rate: Rate = 0.05,
    limit: PositiveInt | None = 20_000,
    seed: NonNegativeInt = 0,
    batch_size: PositiveInt = 128,
    preprocess: Preprocess | None = None,
    input_range: InputRange | None = None,
    output: str | int | None = None,
) -> Familiarity:
    """Fits a measure of how like its training images a classifier finds an image.

    Training images say what is known, held-out images of the same kind where the threshold lies:
    one more image like them falls below it with a chance of `false_alarm_rate` at most. No
    unfamiliar image is used.

        fitted = rc.familiarity.fit(model, splits)
        fitted.is_familiar(images)
        rc.export(model, "export/", class_names=splits.class_names, familiarity=fitted)

    Args:
        model: a classifier as `attacks.adapt` takes it: a Keras model, whose last layer's features
            are looked at; of others, the logits.
        data: splits, of which `train` and `validation` are used; or a split, (images float32 [N, H,
            W, C] in [0, 1], labels int [N]) or a dataset of such pairs, of which 10 % are held out.
        method: one of `METHODS`: vim, knn, mahalanobis, fdbd, energy or msp; or one with settings
            of its own, such as `ViM(dimension=300)` (str or FamiliarityMethod, default "vim").
        false_alarm_rate: share of known images that may be taken for unfamiliar (float in (0, 1),
            default 0.05).
        limit: training images to learn from at most, drawn by `seed`; None takes all (int >= 1 or
            None, default 20000).
        seed: of that draw, and of what is held out (int >= 0, default 0).
        batch_size: images the model sees at a time (int >= 1, default 128).
        preprocess: as for `attacks.adapt` (default None).
        input_range: as for `attacks.adapt` (default None).
        output: as for `attacks.adapt` (default None).

    Raises:
        InputError: no such method; the model or the images are unusable, or they do not fit
            together; or too few held-out images for the rate.
    """
    material = gather(
        model,
        data,
        false_alarm_rate=false_alarm_rate,
        limit=limit,
        seed=seed,
        batch_size=batch_size,
        preprocess=preprocess,
        input_range=input_range,
        output=output,
    )
    return material.fit(method)


@dataclass(frozen=True, eq=False, kw_only=True)
class Material:
    """What every method is fitted from: the images' features, computed once.

    Attributes:
        known: of the training images.
        held_out: features and logits of the held-out images.
        training: what is kept of the training images.
        features: the classifier as a function.
        classifier: the classifier.
        false_alarm_rate: as for `fit`.
    """

    known: Known
    held_out: tuple[np.ndarray, np.ndarray]
    training: TrainingImages
    features: Features
    classifier: Classifier
    false_alarm_rate: float

    def fit(self, method: str | FamiliarityMethod) -> Familiarity:
        """Returns the fitted method.

        Args:
            method: as for `fit`.

        Raises:
            InputError: no such method, or one of a user's fails.
        """
        chosen = _method(method)
        with called(f"familiarity method '{chosen.registry_name}'", type(chosen)):
            state = {name: np.asarray(value) for name, value in chosen.fit(self.known).items()}
        fitted = Familiarity(
            method=chosen,
            threshold=0.0,
            false_alarm_rate=self.false_alarm_rate,
            spread=1.0,
            held_out=len(self.held_out[0]),
            of_layer=self.features.of_layer,
            training=self.training,
            classifier=self.classifier,
            extractor=self.features,
            state={name: _single(value) for name, value in state.items()},
        )
        scores = fitted.score_features(*self.held_out)
        if not np.isfinite(scores).all():
            raise InputError(
                f"method must give finite scores; {chosen.registry_name} gives NaN or infinity for "
                f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} held-out images."
            )
        fields: Mapping[str, Any] = {
            **vars(fitted),
            "threshold": -conformal_threshold(-scores, self.false_alarm_rate),
            "spread": max(float(scores.std()), float(np.finfo(np.float32).tiny)),
        }
        return Familiarity(**fields)


def gather(
    model: Any,
    data: Any,
    *,
    false_alarm_rate: float,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 128,
    **how: Any,
) -> Material:
    """Returns what methods are fitted from; arguments as for `fit`.

    Args:
        model: the classifier.
        data: its images.
        false_alarm_rate: as a share.
        limit: training images at most.
        seed: of the draws.
        batch_size: images the model sees at a time.
        **how: `preprocess`, `input_range` and `output`.

    Raises:
        InputError: as `fit`.
    """
    train, held_out, ids, places = _parts(data, false_alarm_rate, seed)
    classifier, images, labels = prepared(model, train, **how)
    chosen = subset(len(images), limit, seed)
    images, labels = images[chosen], labels[chosen]
    probes = floats(images[:_PROBES])
    features = features_of(classifier, probes)
    found, logits = features.of(images, batch_size)
    looked_among = subset(len(found), MOST, seed)
    return Material(
        known=Known(
            features=found,
            logits=logits,
            labels=labels,
            weights=features.weights,
            bias=features.bias,
            independent=classifier.outputs.independent,
        ),
        held_out=features.of(held_out, batch_size),
        training=TrainingImages(
            bank=unit(found[looked_among]).astype(np.float16),
            ids=ids[chosen][looked_among],
            places=places[chosen][looked_among],
            probes=probes,
            probe_features=found[: len(probes)],
        ),
        features=features,
        classifier=classifier,
        false_alarm_rate=false_alarm_rate,
    )


def _parts(
    data: Any, false_alarm_rate: float, seed: int
) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """Training images with labels, held-out images; names and numbers of the former."""
    needed = smallest_sample(false_alarm_rate)
    if isinstance(data, Splits) and len(data.validation):
        held_out = data.validation.images
        if len(held_out) < needed:
            raise InputError(
                f"data must hold out at least {needed} images for a false-alarm rate of "
                f"{false_alarm_rate:g}; its validation split has {len(held_out)}. Did you mean "
                f"false_alarm_rate={np.ceil(100 / (len(held_out) + 1)) / 100:g}?"
            )
        return data.train, held_out, data.train.ids, np.arange(len(data.train))
    source = data.train if isinstance(data, Splits) else data
    images, labels = arrays_of(source)
    labels = check_labels(labels, len(images))
    count = max(round(_HELD_OUT * len(images)), needed)
    if count > len(images) / 2:
        raise InputError(
            f"data must be at least {2 * needed} images for a false-alarm rate of "
            f"{false_alarm_rate:g}, half of them to set the threshold; received {len(images)}."
        )
    order = np.random.default_rng(seed).permutation(len(images))
    kept, held = np.sort(order[count:]), np.sort(order[:count])
    names = source.ids if isinstance(source, Split) else np.arange(len(images)).astype(str)
    if images.dtype == np.uint8:
        return Split(images[kept], labels[kept], names[kept]), images[held], names[kept], kept
    return (images[kept], labels[kept]), images[held], names[kept], kept


def _method(method: str | FamiliarityMethod) -> FamiliarityMethod:
    if isinstance(method, FamiliarityMethod):
        return method
    if not isinstance(method, str):
        raise InputError(
            f"method must be a name or a FamiliarityMethod; received {type(method).__name__}."
        )
    return METHODS.find(method, "method")()


def _single(value: np.ndarray) -> np.ndarray:
    return value if value.dtype.kind == "b" else value.astype(np.float32)
