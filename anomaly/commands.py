"""Commands of `anomaly` whose flags are the arguments of a function."""

from __future__ import annotations

import sys
from pathlib import Path

from robustcls._validation import InputError
from robustcls.reports.evaluations import evaluation_folder


def evaluate_command(run: str, batch_size: int = 256, name: str | None = None) -> None:
    """Measure a run's detector on the whole test split.

    Writes metrics.json, report/anomaly.html and, of methods with maps, report/images.html.

    Args:
        run: the run folder.
        batch_size: images a forward pass.
        name: of the evaluation, which goes into RUN/evaluations/NAME; into the run when left out.
    """
    from anomaly.experiments.runs import evaluate_detector
    from anomaly.reports.overview import print_evaluation

    metrics = evaluate_detector(run, batch_size=batch_size, name=name, progress=sys.stderr.isatty())
    print_evaluation(metrics)
    print(evaluation_folder(Path(run), metrics["evaluation"]))


def video_command(run: str, film: str, out: str | None = None, batch_size: int = 32) -> None:
    """Score the frames of a film and write it with red boxes.

    Writes NAME.mp4, frames.csv and film.json.

    Args:
        run: the run folder of a detector.
        film: a file of any kind that FFmpeg reads.
        out: the folder to write into; NAME-annotated beside the film when left out.
        batch_size: frames a forward pass.
    """
    from anomaly.experiments.films import annotate_film

    out = f"{Path(film).with_suffix('')}-annotated" if out is None else out
    found = annotate_film(run, film, out, batch_size=batch_size, progress=sys.stderr.isatty())
    if found["ended_early"]:
        print(f"{film} ended early: {found['ended_early']}.", file=sys.stderr)
    print(
        f"{found['frames']} frames, {found['anomalies']} anomalies, "
        f"{found['frames_per_second']:.1f} frames/s"
    )
    print(Path(out) / f"{Path(film).stem}.mp4")


def frames_command(
    film: str,
    out: str | None = None,
    every: int = 1,
    first: int | None = None,
    channels: int = 3,
) -> None:
    """Write frames of a film as pictures, to train a detector on.

    Args:
        film: a file of any kind that FFmpeg reads.
        out: a new folder for the pictures; NAME-frames beside the film when left out.
        every: take each n-th frame.
        first: look at so many frames from the beginning; at all when left out.
        channels: 1 gray, 3 colour.
    """
    from anomaly.experiments.films import extract_frames

    out = f"{Path(film).with_suffix('')}-frames" if out is None else out
    print(f"{extract_frames(film, out, every=every, first=first, channels=channels)} frames, {out}")


def export_command(
    run: str,
    out: str | None = None,
    name: str | None = None,
    version: int | None = None,
    classifier: str | None = None,
    model: str | None = None,
) -> None:
    """Write a run's detector, alone or in front of a classifier, for TensorFlow Serving.

    `robustcls check-export` and `robustcls serve` take the SavedModel that it writes.

    Args:
        run: the run folder.
        out: the model's folder, which gets the next version; RUN/export, or RUN/export-gate with
            a classifier, when left out.
        name: the detector's name in requests; the run's when left out.
        version: the number of the version; the next when left out.
        classifier: a run of `robustcls train` whose classifier gets the images that the detector
            accepts; both go into one SavedModel.
        model: base or adversarial, of the classifier; adversarial where it was trained when left
            out.
    """
    if classifier is None:
        if model is not None:
            raise InputError("model must come with --classifier, whose model it names.")
        from anomaly.experiments.exports import export_detector

        print(export_detector(run, out, name=name, version=version))
        return
    from anomaly.experiments.exports import export_gate

    print(export_gate(run, classifier, out, model=model, name=name, version=version))
