import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls.classifiers.folded import weights_of

WAYS = {
    "assign": lambda variable: variable.assign(np.asarray(variable) + 1),
    "assign_add": lambda variable: variable.assign_add(np.ones(variable.shape, np.float32)),
    "one value": lambda variable: variable.value.scatter_nd_add([[0, 0]], [5.0]),
    "compiled": lambda variable: tf.function(lambda: variable.assign(variable * 2 + 1))(),
    "trained": lambda variable: keras.optimizers.SGD(0.1, momentum=0.9).apply(
        [tf.ones(variable.shape)], [variable]
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_changing_a_weight_is_seen(way):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    kernel = model.layers[-1].kernel
    for _ in range(2):  # TensorFlow keeps a variable otherwise once single values were set
        before, values = weights_of(model), np.array(kernel)
        assert before == weights_of(model)
        WAYS[way](kernel)
        assert before != weights_of(model)
        assert not np.array_equal(values, kernel)
    kept = weights_of(model)
    kernel.assign(np.array(kernel))  # the same values at another place
    assert kept == weights_of(model)


def test_other_models_have_other_weights_and_functions_none():
    models = [keras.Sequential([keras.Input((3,)), keras.layers.Dense(n)]) for n in (2, 2, 3)]
    first, second, third = map(weights_of, models)
    assert first != second
    assert first != third
    assert first != weights_of(lambda images: images)
    assert weights_of(keras.Sequential([keras.layers.Dense(2)])) is None
