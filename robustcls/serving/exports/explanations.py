"""Saliency maps of a classifier as TensorFlow operations, for the served graph."""

from __future__ import annotations

import keras
import tensorflow as tf

from robustcls._validation import InputError

#: How the maps read; the model card says it to whoever calls the signature.
DEFINITIONS = {
    "positive": "positive part of the logit's gradient over the pixels, largest over the channels",
    "negative": "negative part of the same gradient, its sign dropped",
    "cam": "Grad-CAM on the last feature map of at least 4x4, resized to the image, not normalized",
}


class Explainer:
    """Maps of why a class got its logit.

    Args:
        model: a functional classifier, images [N, H, W, C] to logits [N, K].

    Reference: Simonyan et al., 2014, "Deep Inside Convolutional Networks" (gradients); Selvaraju
    et al., 2017, "Grad-CAM", section 3.
    """

    def __init__(self, model: keras.Model) -> None:
        # Needed where an export is made, and not where it is served.
        from robustcls.explanation.layers import choose_layer, feature_maps

        maps = [choose_layer(model).output] if feature_maps(model) else []
        self.model = keras.Model(model.inputs[0], [*maps, model.outputs[0]])

    def __call__(self, images: tf.Tensor, class_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the maps of `DEFINITIONS`; without `cam` if the model has no feature map.

        Args:
            images: float32 [N, H, W, C] in [0, 1].
            class_ids: int64 [N] or [1]; -1 stands for the predicted class.

        Returns:
            `positive`, `negative`, `cam`: float32 [N, H, W], ≥ 0; `class_id`: int64 [N].

        Raises:
            InputError: the logits have no gradient with respect to the images.
        """
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            *features, logits = tf.nest.flatten(self.model(images, training=False))
            predicted = tf.argmax(logits, -1)
            chosen = tf.where(class_ids == -1, predicted, class_ids)
            target = tf.gather(logits, chosen, batch_dims=1)
        gradients = tape.gradient(target, [images, *features])
        if gradients[0] is None:
            raise InputError(
                "model must be differentiable; its logits have no gradient with respect to the "
                "images."
            )
        maps = {
            "positive": tf.reduce_max(tf.nn.relu(gradients[0]), -1),
            "negative": tf.reduce_max(tf.nn.relu(-gradients[0]), -1),
            "class_id": chosen,
        }
        if features:
            gradient, feature = (tf.cast(x, tf.float32) for x in (gradients[1], features[0]))
            weights = tf.reduce_mean(gradient, [1, 2], keepdims=True)
            cam = tf.nn.relu(tf.reduce_sum(weights * feature, -1, keepdims=True))
            maps["cam"] = tf.image.resize(cam, images.shape[1:3])[..., 0]
        return maps
