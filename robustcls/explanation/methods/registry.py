"""The methods of explanation by the names that the command line uses; a user's own follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from robustcls._registry import Registry

Function = TypeVar("Function", bound=Callable[..., Any])
_HERE = "robustcls.explanation.methods"


@dataclass(frozen=True)
class ExplanationMethod:
    """A method and what `Explainer` needs to know to call it.

    Attributes:
        function: `(explainer, images, classes) -> Maps`, see `register_explanation`.
        uses_layer: it weighs the feature map of `explainer.layer`.
        one_by_one: it gets one image at a time.
    """

    function: Callable[..., Any]
    uses_layer: bool = False
    one_by_one: bool = False


METHODS: Registry[ExplanationMethod] = Registry(
    "explanation method",
    {
        "gradients": f"{_HERE}.gradients:gradients",
        "smoothgrad": f"{_HERE}.gradients:smoothgrad",
        "vargrad": f"{_HERE}.gradients:vargrad",
        "integrated_gradients": f"{_HERE}.integrated_gradients:integrated_gradients",
        "gradient_times_input": f"{_HERE}.gradient_times_input:gradient_times_input",
        "guided_backpropagation": f"{_HERE}.guided_backpropagation:guided_backpropagation",
        "grad_cam": f"{_HERE}.activation_maps:grad_cam",
        "grad_cam_plus_plus": f"{_HERE}.activation_maps:grad_cam_plus_plus",
        "layer_cam": f"{_HERE}.activation_maps:layer_cam",
        "hires_cam": f"{_HERE}.activation_maps:hires_cam",
        "score_cam": f"{_HERE}.score_cam:score_cam",
        "attention_rollout": f"{_HERE}.attention_rollout:attention_rollout",
        "occlusion": f"{_HERE}.occlusion:occlusion",
        "rise": f"{_HERE}.rise:rise",
        "kernel_shap": f"{_HERE}.kernel_shap:kernel_shap",
    },
)


def register_explanation(
    name: str | None = None, *, uses_layer: bool = False, one_by_one: bool = False
) -> Callable[[Function], Function]:
    """Makes a function a method of explanation like every other: a decorator.

    The method is then one of `METHODS`: `Explainer`, `explain` and `robustcls explain --methods`
    take it, and the report tests it.

        @rc.register_explanation()
        def brightness(explainer, images, classes):
            return Maps(images.mean(-1))

    Args:
        name: in `METHODS`; the function's when None (str or None, default None).
        uses_layer: the method weighs the feature map of `explainer.layer`, which the report
            names (bool, default False).
        one_by_one: the function gets one image at a time rather than `explainer.batch_size` (bool,
            default False).

    Returns:
        The decorator of a function `(explainer, images, classes) -> Maps`: the explainer of the
        model, images float32 [n, H, W, C] in [0, 1], classes int64 [n]; n is the same in every
        call. The maps are of the size of the images. `explainer.predict(images)` are
        probabilities, `class_gradients(explainer, images, classes)` the gradients of the logits.

    Raises:
        InputError: the name is taken.
    """

    def register(function: Function) -> Function:
        method = ExplanationMethod(function, uses_layer, one_by_one)
        METHODS.add(function.__name__ if name is None else name, method, function)
        return function

    return register
