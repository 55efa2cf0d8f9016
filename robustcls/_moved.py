"""Modules that answer to the names they had in version 0.1."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

MOVED = {
    "attacks.adapters": "classifiers.adapters",
    "attacks.classifier": "classifiers.classifier",
    "attacks.folded": "classifiers.folded",
    "attacks.apgd": "attacks.auto_pgd.apgd",
    "attacks.auto_attack": "attacks.suites.auto_attack",
    "attacks.fab": "attacks.minimum_norm.fab",
    "attacks.hyperplanes": "attacks.minimum_norm.fab",
    "attacks.logits": "classifiers.logits",
    "attacks.looped": "attacks.loop",
    "data.builders": "data.tfds.builders",
    "data.carving": "data.held_out",
    "data.mirrors": "data.tfds.mirrors",
    "data.tfds_lookup": "data.tfds.lookup",
    "data.tfds_sets": "data.tfds.sets",
    "evaluation.blurs": "evaluation.corruptions.blurs",
    "evaluation.candidates": "evaluation.runs.models",
    "evaluation.certify": "evaluation.runs.certification",
    "evaluation.charts": "evaluation.reports.charts",
    "evaluation.checks": "evaluation.trust",
    "evaluation.checks.check": "evaluation.trust.verdict",
    "evaluation.checks.evidence": "evaluation.trust.evidence",
    "evaluation.checks.gathering": "evaluation.trust.measurements",
    "evaluation.checks.subject": "evaluation.trust.checked_model",
    "evaluation.checks.verdicts": "evaluation.trust.checks",
    "evaluation.comparison": "evaluation.runs.comparison",
    "evaluation.config": "evaluation.runs.config",
    "evaluation.corruption_evaluation": "evaluation.corruptions.evaluation",
    "evaluation.corruption_report": "evaluation.corruptions.report",
    "evaluation.curves": "evaluation.reports.charts",
    "evaluation.digital": "evaluation.corruptions.digital",
    "evaluation.fog": "evaluation.corruptions.fog",
    "evaluation.ledger": "distribution.parts",
    "evaluation.measuring": "evaluation.runs.plan",
    "evaluation.passes": "evaluation.prediction",
    "evaluation.prepared_corruptions": "evaluation.corruptions.prepared",
    "evaluation.report": "evaluation.reports.report",
    "evaluation.run_data": "evaluation.runs.data",
    "evaluation.smoothing_config": "evaluation.smoothing.config",
    "evaluation.tones": "evaluation.corruptions.tones",
    "explanation._tf_keras_vis": "explanation.methods._tf_keras_vis",
    "explanation.activation_maps": "explanation.methods.activation_maps",
    "explanation.class_images": "explanation.activation_maximization",
    "explanation.estimates": "evaluation.intervals",
    "explanation.faithfulness": "explanation.quality.faithfulness",
    "explanation.logits_model": "explanation.methods.logits_model",
    "explanation.maps": "explanation.methods.maps",
    "explanation.page": "explanation.reports.page",
    "explanation.report": "explanation.reports.report",
    "explanation.resampling": "explanation.methods.resampling",
    "explanation.results": "explanation.reports.results",
    "explanation.runs": "explanation.reports.runs",
    "explanation.selection": "explanation.reports.given.selection",
    "explanation.similarity": "explanation.quality.similarity",
    "explanation.subject": "explanation.reports.given.images",
    "explanation.views": "explanation.reports.answers",
    "models.classifier": "models.building",
    "models.finishing": "models.reproducible",
    "serving.archive": "serving.exports.archive",
    "serving.bfloat16": "serving.exports.bfloat16",
    "serving.card": "serving.exports.model_card",
    "serving.classifier": "serving.exports.classifier_servable",
    "serving.client": "serving.clients.client",
    "serving.comparison": "serving.exports.conversion_cost",
    "serving.configuration": "serving.exports.configuration",
    "serving.endpoints": "serving.exports.endpoints",
    "serving.explanations": "serving.exports.explanations",
    "serving.exporting": "serving.exports.exporting",
    "serving.extra": "serving.optional_packages",
    "serving.fresh_process": "serving.checking.fresh_process",
    "serving.parity": "serving.checking.parity",
    "serving.portable": "serving.exports.portable",
    "serving.run_card": "serving.exports.run_card",
    "serving.samples": "serving.exports.samples",
    "serving.servable": "serving.exports.servable",
    "serving.transports": "serving.clients.transports",
    "serving.warmup": "serving.exports.warmup",
}
"""Former names of modules of this package and their present ones, without the package's name."""


class _Alias(importlib.abc.Loader):
    """Gives the present module for its former name: one module object under two names."""

    def __init__(self, present: str) -> None:
        self.present = present

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.present)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of a table by their former names."""

    def __init__(self, table: Mapping[str, str]) -> None:
        self.table = table

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        present = self.table.get(fullname)
        if present is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, _Alias(present))


def keep_former_names(package: str, table: Mapping[str, str]) -> None:
    """Lets modules be imported by their former names too.

    Args:
        package: of both names, for example "anomaly".
        table: the former names and the present ones, without the package's.
    """
    full = {f"{package}.{former}": f"{package}.{now}" for former, now in table.items()}
    sys.meta_path.insert(0, _Finder(full))
