"""The public names, listed once. Each loads on first use."""

from .autoencoder import AutoEncoder as AutoEncoder
from .deep_svdd.deep_sad import DeepSAD as DeepSAD
from .deep_svdd.detector import DeepSVDD as DeepSVDD
from .detection.detector import OneClassDetector as OneClassDetector
from .detection.maps import MapDetector as MapDetector
from .detection.reconstruction import ReconstructionDetector as ReconstructionDetector
from .detection.thresholds import conformal_threshold as conformal_threshold
from .ebgan.detector import EBGAN as EBGAN
from .experiments.protocol import OneClassSplits as OneClassSplits
from .experiments.protocol import evaluate_scores as evaluate_scores
from .experiments.protocol import known_anomalies as known_anomalies
from .experiments.protocol import one_class_splits as one_class_splits
from .localization.boxes import Box as Box
from .localization.boxes import draw_boxes as draw_boxes
from .memae.detector import MemAE as MemAE
from .memae.memory import MemoryModule as MemoryModule
from .ognet.detector import OGNet as OGNet
from .one_class_svm import OneClassSVM as OneClassSVM
from .patch_memory.detector import PatchMemory as PatchMemory

__all__ = [
    "EBGAN",
    "AutoEncoder",
    "Box",
    "DeepSAD",
    "DeepSVDD",
    "MapDetector",
    "MemAE",
    "MemoryModule",
    "OGNet",
    "OneClassDetector",
    "OneClassSVM",
    "OneClassSplits",
    "PatchMemory",
    "ReconstructionDetector",
    "conformal_threshold",
    "draw_boxes",
    "evaluate_scores",
    "known_anomalies",
    "one_class_splits",
]
