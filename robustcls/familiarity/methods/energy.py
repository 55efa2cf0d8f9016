"""The negative free energy of the logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf

from robustcls.familiarity.method import FamiliarityMethod


@dataclass(frozen=True, kw_only=True)
class Energy(FamiliarityMethod, name="energy"):
    """log Σ exp(logit), temperature 1: what the softmax divides away.

    Source: Liu et al., "Energy-based Out-of-distribution Detection", 2020, section 3.1.
    """

    def score(
        self, features: tf.Tensor, logits: tf.Tensor, state: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        del features, state
        return tf.reduce_logsumexp(logits, -1)
