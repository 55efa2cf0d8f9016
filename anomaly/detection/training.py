"""How every detector trains: Keras' `fit`, stage by stage, with checkpoints to go on from."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._memory import within_memory
from robustcls._stopping import saving_first
from robustcls.data.pipeline import ImageSource, Policy, evaluation_batches, train_batches
from robustcls.distribution.collectives import is_chief, on_chief
from robustcls.distribution.multi_worker import for_workers
from robustcls.distribution.replicas import draw_for_replica, worker_count
from robustcls.distribution.timing import WorkerTimes
from robustcls.runs import Run
from robustcls.training.checkpoints import EpochCheckpoint
from robustcls.training.progress import shown
from robustcls.training.watching import FiniteLoss

Record = Callable[[str], AbstractContextManager[list[keras.callbacks.Callback]]]
"""Given a stage's name, what is open while it trains: gives the callbacks that write it down."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a method trains on, and where it leaves its traces.

    Attributes:
        images: float32 [N, H, W, C] in [0, 1], normal.
        validation: float32 [M, H, W, C] in [0, 1], normal and not among `images`; to watch the
            loss, not to learn from.
        anomalies: float32 [K, H, W, C] in [0, 1], for methods that take some; else None.
        folder: where checkpoints, `history.csv` and TensorBoard's files go; None keeps none.
        verbose: 1 shows Keras' progress bars, 2 a line an epoch, 0 nothing.
        watch: called with the stage and the number of its epoch after each epoch.
        record: opened for each stage, for experiment trackers.
    """

    images: np.ndarray
    validation: np.ndarray
    anomalies: np.ndarray | None = None
    folder: Path | None = None
    verbose: int = 1
    watch: Callable[[str, int], None] | None = None
    record: Record | None = None

    def run(
        self,
        stage: str,
        model: keras.Model,
        *,
        epochs: int,
        batch_size: int,
        seed: int,
        policy: Policy | None = None,
        steps: int | None = None,
    ) -> None:
        """Trains a compiled `model` on batches `(images, zeros)`, from its newest checkpoint on.

        Everything the stage trains must be a variable of `model`. A stage that an earlier process
        finished only gets its variables back, so later stages find what it left.

        Args:
            stage: the stage's folder in `folder`.
            model: compiled; its `train_step` takes images float32 [B, H, W, C] in [0, 1].
            epochs: epochs of the whole stage.
            batch_size: images a step.
            seed: of the order and the augmentation.
            policy: augmentation of the batches.
            steps: batches of an epoch, the first ones of its order; None takes all.

        Raises:
            InputError: fewer images than one batch, a loss that is no longer finite, or a
                checkpoint of another training.
        """
        first_epoch, reached = 0, ""
        callbacks: list[keras.callbacks.Callback] = [FiniteLoss()]
        if self.folder is not None:
            folder = self.folder
            identity = on_chief(lambda: Run(folder).identity if Run.is_at(folder) else "")
            checkpoint = EpochCheckpoint(folder / stage, identity=f"{identity} {stage}")
            first_epoch = checkpoint.restore(model)
            logs = folder / stage / "tensorboard"
            if worker_count() > 1:
                callbacks.append(WorkerTimes(folder / stage / "workers.csv", bool(self.verbose)))
            callbacks.append(checkpoint)
            reached = checkpoint.reached(first_epoch)
            if is_chief():
                callbacks.append(keras.callbacks.TensorBoard(str(logs), write_graph=False))
        if first_epoch >= epochs:
            return
        if self.watch is not None:
            watch = self.watch
            callbacks.append(
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda epoch, logs: watch(stage, epoch + 1)
                )
            )
        if self.verbose:
            after = f", after {reached}" if reached else ""
            print(f"Training {stage} ({epochs} epochs{after})", flush=True)
        bars, lines = shown(self.verbose)
        if not model.optimizer.built:  # else Keras traces the first step twice
            model.optimizer.build(model.trainable_weights)
        source, held_out = _unlabelled(self.images), _unlabelled(self.validation)
        batches = train_batches(
            source,
            policy,
            batch_size=batch_size,
            seed=seed,
            epochs=itertools.count(first_epoch),
        )
        recorded = self.record(stage) if self.record is not None else nullcontext([])
        try:
            with recorded as more, within_memory(batch_size), saving_first():
                for_workers(model).fit(
                    batches if steps is None else batches.take(steps),
                    validation_data=evaluation_batches(held_out),
                    epochs=epochs,
                    initial_epoch=first_epoch,
                    shuffle=False,
                    callbacks=[*callbacks, *more, *lines],
                    verbose=bars,
                )
        finally:
            source.close()
            held_out.close()


def _unlabelled(images: np.ndarray) -> ImageSource:
    return ImageSource(images, np.zeros(len(images), np.int64))


def draw(images: tf.Tensor, count: Any, seed: int, step: Any) -> tf.Tensor:
    """Returns `count` of images [K, H, W, C], drawn evenly; `seed` and `step` decide which."""
    key = tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64)])
    last = tf.shape(images)[0]
    chosen = draw_for_replica(
        lambda shape: tf.random.stateless_uniform(shape, key, 0, last, tf.int32), [count]
    )
    return tf.gather(images, chosen)
