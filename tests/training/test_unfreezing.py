import keras
import numpy as np
import pytest

from robustcls._validation import InputError
from robustcls.models import mobilenet_v2
from robustcls.models.backbones import unfreezing_blocks
from robustcls.models.building import build_classifier
from robustcls.training.adversarial import AdversarialRegularization
from robustcls.training.unfreezing import PlateauUnfreezing


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    return generator.uniform(size=(16, 32, 32, 1)).astype(np.float32), np.arange(16) % 3


@pytest.fixture
def build(monkeypatch):
    """A function that builds a MobileNetV2 of three stages, of one block each."""
    stages = [(channels, 1, stride) for channels, _, stride in mobilenet_v2.STAGES[:3]]
    monkeypatch.setattr(mobilenet_v2, "STAGES", stages)
    return _build


def _build():
    return build_classifier("mobilenet_v2", input_shape=(32, 32, 1), num_classes=3, alpha=0.35)


def open_layers(model):
    return [
        any(layer.trainable for layer in block if layer.weights)
        for block in unfreezing_blocks(model)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", [pytest.param(False, marks=pytest.mark.exhaustive), True])
def test_blocks_open_from_the_top_and_momentum_stays(data, build, wrapped, capsys):
    base = build()
    model = AdversarialRegularization(base) if wrapped else base
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.weights = base.get_weights()
            self.momenta = [keras.ops.convert_to_numpy(m) for m in model.optimizer.momentums]
            self.steps = int(model.optimizer.iterations)

        def on_epoch_end(self, epoch, logs=None):
            changed = {
                id(layer): any(
                    not np.array_equal(old, new)
                    for old, new in zip(
                        before[layer.name](self.weights), layer.get_weights(), strict=True
                    )
                )
                for block in unfreezing_blocks(base)
                for layer in block
            }
            seen.append(
                [any(changed[id(layer)] for layer in block) for block in unfreezing_blocks(base)]
            )
            head = [np.abs(m).sum() for m in self.momenta[-2:]]
            assert epoch == 0 or min(head) > 0
            assert self.steps == epoch

    before = slices_by_layer(base)
    # Every epoch is a plateau, since none can fall by its whole value.
    unfreezing = PlateauUnfreezing(patience=1, min_delta=1.0)
    images, labels = data
    model.fit(images, labels, batch_size=16, epochs=4, verbose=0, callbacks=[Watch(), unfreezing])
    total = len(unfreezing_blocks(base))
    assert total == 6
    # The first epoch sets the best loss, and each later one opens a block after it.
    assert seen == [[index < count for index in range(total)] for count in (1, 1, 2, 3)]
    assert open_layers(base) == [index < 4 for index in range(total)]
    assert capsys.readouterr().out.count("has stopped improving") == 3


def slices_by_layer(model):
    """How to find a layer's arrays in `model.get_weights()`."""
    found, start = {}, 0
    for layer in model.layers:
        count = len(layer.get_weights())
        found[layer.name] = lambda weights, a=start, b=start + count: weights[a:b]
        start += count
    return found


def test_state_round_trip():
    first = PlateauUnfreezing(patience=3)
    first.open_blocks, first.best, first.wait = 5, 0.25, 2
    second = PlateauUnfreezing(patience=3)
    second.set_state(first.get_state())
    assert (second.open_blocks, second.best, second.wait) == (5, 0.25, 2)


def test_bad_input(data):
    with pytest.raises(InputError, match="patience must be an integer >= 1; received 0"):
        PlateauUnfreezing(patience=0)
    with pytest.raises(InputError, match="min_delta must be a number"):
        PlateauUnfreezing(min_delta=-0.1)
    model = keras.Sequential([keras.Input((32, 32, 1)), keras.layers.Flatten()])
    callback = PlateauUnfreezing(monitor="val_loss")
    callback.set_model(model)
    with pytest.raises(InputError, match="monitor must be one of loss; received 'val_loss'"):
        callback.on_epoch_end(0, {"loss": 1.0})
