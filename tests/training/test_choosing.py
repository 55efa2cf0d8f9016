"""Settings of a training that are chosen by its weights and its number of images."""

import dataclasses

import pytest

from robustcls.training.choosing import MOST_EPOCHS, STEPS, choose, fill, small_batch
from robustcls.training.config import ModelConfig, OptimizerConfig, TrainConfig, UnfreezingConfig

GIVEN = TrainConfig(model=ModelConfig(weights="imagenet"))


def test_many_images_have_the_settings_of_large_sets():
    config, words = choose(TrainConfig(), 9000)
    assert (config.epochs, config.batch_size, config.optimizer.learning_rate) == (10, 128, 0.02)
    assert (config.unfreezing.patience, config.unfreezing.blocks_at_start) == (0, 1)
    assert words.startswith("Chosen for 9,000 images and random weights: epochs 10, batch_size 128")


@pytest.mark.parametrize("count", [4, 25, 126, 400, 1900])
def test_few_images_make_enough_steps(count):
    config, _ = choose(TrainConfig(), count)
    assert 2 <= config.batch_size <= count
    assert config.epochs * (count // config.batch_size) >= STEPS or config.epochs == MOST_EPOCHS
    assert config.unfreezing.patience == 0


def test_given_weights_are_trained_shorter_and_at_a_smaller_rate():
    config, words = choose(GIVEN, 126)
    random, _ = choose(TrainConfig(), 126)
    assert config.epochs < random.epochs
    assert config.optimizer.learning_rate == 0.002 < random.optimizer.learning_rate
    assert words == (
        "Chosen for 126 images and given weights: epochs 18, batch_size 16, "
        "optimizer.learning_rate 0.002, unfreezing.patience 0."
    )


def test_what_is_set_stays():
    asked = dataclasses.replace(
        GIVEN,
        epochs=3,
        batch_size=8,
        optimizer=OptimizerConfig(learning_rate=0.5),
        unfreezing=UnfreezingConfig(patience=0, blocks_at_start=2),
    )
    assert choose(asked, 126) == (asked, "")
    one = dataclasses.replace(GIVEN, unfreezing=UnfreezingConfig(patience=0))
    config, words = choose(one, 126)
    assert (config.unfreezing.patience, config.unfreezing.blocks_at_start) == (0, 1)
    assert "unfreezing" not in words


def test_what_is_chosen_is_no_more_left_out():
    config, words = choose(GIVEN, 126)
    assert words
    assert choose(config, 9000) == (config, "")


def test_a_run_that_goes_on_keeps_its_own():
    kept = choose(TrainConfig(), 9000)[0].to_dict()
    config = fill(dataclasses.replace(GIVEN, epochs=3), kept)
    assert (config.epochs, config.batch_size, config.optimizer.learning_rate) == (3, 128, 0.02)
    assert config.model.weights == "imagenet"
    assert fill(GIVEN, {}) == GIVEN


def test_small_batches():
    assert [small_batch(count) for count in (4, 20, 126, 300, 5000)] == [2, 10, 16, 37, 64]
