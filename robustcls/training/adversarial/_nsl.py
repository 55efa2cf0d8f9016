"""Imports Neural Structured Learning on current TensorFlow; the only module that does.

NSL 1.4 asks for `tensorflow.estimator`, which TensorFlow removed in 2.16. Nothing used here needs
it, so an empty module of that name stands in while NSL is imported.
"""

from __future__ import annotations

import sys
import types
import warnings

import tensorflow as tf

_NAME = "tensorflow.estimator"


def _import_nsl() -> types.ModuleType:
    missing = _NAME not in sys.modules and not hasattr(tf, "estimator")
    if missing:
        sys.modules[_NAME] = tf.estimator = types.ModuleType(_NAME)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import neural_structured_learning
    finally:
        if missing:
            del sys.modules[_NAME], tf.estimator
    return neural_structured_learning


nsl = _import_nsl()
