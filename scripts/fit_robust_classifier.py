"""A robust classifier with plain Keras `fit`: python scripts/fit_robust_classifier.py.

Trains a small MobileNetV2 on the embedded images for about a minute on two cores.
"""

import keras

import robustcls as rc

splits = rc.load("fashion_mnist_mini")
model = rc.build_classifier(
    "mobilenet_v2", input_shape=splits.image_shape, num_classes=splits.num_classes, alpha=0.35
)
robust = rc.AdversarialRegularization(model, multiplier=0.5, step_size=8 / 255)
robust.compile(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), metrics=["accuracy"])
robust.fit(
    rc.train_batches(splits, rc.AugmentationPolicy(crop_padding=0), batch_size=64),
    validation_data=rc.evaluation_batches(splits.validation),
    epochs=3,
)
robust.save("robust.keras")  # the base model: the wrapper is for training alone

attacks = [rc.attacks.FGSM(epsilon=8 / 255), rc.attacks.PGD(epsilon=8 / 255, steps=20)]
report = rc.evaluate(model, splits.test, attacks=attacks, attack_limit=500)
for measured in report.measurements:
    print(f"{measured.name:16} {measured.accuracy:.3f} [{measured.low:.3f}, {measured.high:.3f}]")
