"""Makes a page of what was found out about classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robustcls.attacks import Attack
from robustcls.evaluation.intervals import Estimate, measurement
from robustcls.explanation.quality.measures.registry import MEASURES
from robustcls.explanation.quality.table import QualityTable
from robustcls.explanation.reports.answers import AnswerViews, amplification, bytes_for_each
from robustcls.explanation.reports.disagreement import WORDS, disagreements
from robustcls.explanation.reports.examples import ABOUT_CONCEPTS
from robustcls.explanation.reports.given.images import ExplainedImages
from robustcls.explanation.reports.results import ModelResults
from robustcls.reports.gallery import Card, Page, Panel, Row, Section, Table
from robustcls.reports.pictures import data_uri, to_pixels
from robustcls.runs import versions

_CONCEPT_BYTES = 20_000
TAGS = {
    "flipped": "turned by the attack",
    "held": "held under attack",
    "correct": "right before the attack",
    "wrong": "wrong before the attack",
}


def make_page(
    explained: ExplainedImages,
    models: Sequence[ModelResults],
    attack: Attack | None,
    *,
    selected: str,
    source: str,
    seed: int,
    accuracies: Mapping[str, Mapping[str, float]],
    settings: Mapping[str, str],
    facts: Mapping[str, Mapping[str, str]],
) -> Page:
    """Returns the page.

    Args:
        explained: the images.
        models: what was found out about each model, the reference first.
        attack: that made the twins.
        selected: how the images were chosen, in words.
        source: where the images come from, in words.
        seed: of everything random.
        accuracies: of the models, by name, measured on more images than are shown.
        settings: name to value, for the end.
        facts: more of them under titles of their own.
    """
    factor, most_bytes = amplification(explained, models), bytes_for_each(models)
    orders = disagreements(models)
    viewers = [
        AnswerViews(explained, model, factor, most_bytes, found)
        for model, found in zip(models, orders, strict=True)
    ]
    cards = []
    for at, name in enumerate(explained.ids):
        answers = {explained.name(int(model.predicted[at])) for model in models}
        cards.append(
            Card(
                title=str(name),
                category=explained.label_name(at) or "no label",
                views=[viewer.view(at) for viewer in viewers],
                words=" ".join(sorted(answers)),
            )
        )
    names = ", ".join(model.name for model in models)
    attacked = {} if attack is None else _attack_facts(attack)
    return Page(
        title=f"Explanations of {names}",
        summary=_summary(explained, models, attack, selected),
        note=" ".join(
            [
                f"Images: {source}.",
                f"Attack: {_ball(attack)}." if attack is not None else "No attack.",
                f"Seed {seed}.",
            ]
        ),
        cards=cards,
        order="how much probability the attack takes from the predicted class"
        if attack is not None
        else "how unsure the model is",
        orders={name: words for name, words in WORDS.items() if any(name in o for o in orders)},
        sections=_sections(explained, models, attack, accuracies),
        tags={
            tag: words
            for tag, words in TAGS.items()
            if (attack is not None or tag not in ("flipped", "held"))
            and (explained.labels is not None or tag not in ("correct", "wrong"))
        },
        facts={
            **facts,
            "Settings": {
                **settings,
                **{
                    f"layer of {model.name}": model.layer
                    for model in models
                    if model.layer is not None
                },
            },
            **({"Attack": attacked} if attacked else {}),
            "Versions": versions(),
        },
    )


def _summary(
    explained: ExplainedImages, models: Sequence[ModelResults], attack: Attack | None, selected: str
) -> list[str]:
    count = len(explained.ids)
    sentences = [f"{count} {'image' if count == 1 else 'images'}, " + f"{selected}."]
    for model in models:
        words = [f"{model.name}:"]
        if explained.labels is not None:
            words.append(f"{int(explained.right(model.probabilities).sum())} of {count} right")
        if attack is not None:
            words.append(
                f"{'and ' if len(words) > 1 else ''}{int(model.flipped.sum())} turned by "
                f"{attack.name}"
            )
        if len(words) > 1:
            sentences.append(" ".join(words) + ".")
        for method, quality in model.quality.items():
            if not quality.explains_this_model:
                sentences.append(f"{model.name}: {method} does not explain this model.")
    return sentences


def _sections(
    explained: ExplainedImages,
    models: Sequence[ModelResults],
    attack: Attack | None,
    accuracies: Mapping[str, Mapping[str, float]],
) -> list[Section]:
    sections = []
    tables = [] if explained.labels is None else [_accuracy(explained, models, attack)]
    if accuracies:
        tables.append(_measured(accuracies))
    if tables:
        sections.append(Section("Accuracy", tables=tables))
    if any(model.quality for model in models):
        sections.append(_quality(models))
    sections += [_believed(model.name, model.table) for model in models if model.table]
    if any(model.class_images is not None for model in models):
        sections.append(_classes(explained, models))
    concepts = [
        row
        for model in models
        for found in model.concepts
        for row in found.rows(model.name, explained.name(found.concepts.label), _CONCEPT_BYTES)
    ]
    if concepts:
        sections.append(
            Section("What the classes are made of to the model", ABOUT_CONCEPTS, rows=concepts)
        )
    return sections


def _classes(explained: ExplainedImages, models: Sequence[ModelResults]) -> Section:
    """A row for each class with the pictures of all models side by side."""
    made = {model.name: model.class_images for model in models if model.class_images is not None}
    rows = []
    for label in range(max(len(images) for images in made.values())):
        panels = [
            Panel(name, data_uri(to_pixels(images[label])), f"{name}: {explained.name(label)}")
            for name, images in made.items()
            if label < len(images)
        ]
        rows.append(Row(explained.name(label), panels))
    return Section(
        "What the classes look like to the model",
        "Images made to raise the logit of each class, all from the same gray, by the waves that "
        "they are made of: what differs is what the models have learnt.",
        rows=rows,
    )


def _accuracy(
    explained: ExplainedImages, models: Sequence[ModelResults], attack: Attack | None
) -> Table:
    count = len(explained.ids)
    rows = []
    for model in models:
        right = explained.right(model.probabilities)
        cells = [model.name, _share(int(right.sum()), count)]
        if model.adversarial_probabilities is not None:
            still = explained.right(model.adversarial_probabilities)
            cells.append(_share(int((right & still).sum()), count))
        rows.append(cells)
    head = ["model", "clean"]
    if attack is not None:
        head.append(f"under {attack.name}, epsilon {attack.epsilon:.4g}")
    caption = f"Accuracy in % on the {count} images below, with the 95 % Clopper-Pearson interval"
    return Table(caption, head, rows)


def _measured(accuracies: Mapping[str, Mapping[str, float]]) -> Table:
    names = list(dict.fromkeys(name for found in accuracies.values() for name in found))
    rows = [
        [model, *(f"{100 * found[name]:.1f}" if name in found else "–" for name in names)]
        for model, found in accuracies.items()
    ]
    return Table("Accuracy in % on the test set, as evaluated before", ["model", *names], rows)


def _share(right: int, count: int) -> str:
    found = measurement("", right, count)
    return f"{100 * found.accuracy:.1f} ({100 * found.low:.1f} – {100 * found.high:.1f})"


def _quality(models: Sequence[ModelResults]) -> Section:
    rows = []
    count = 0
    for model in models:
        for method, quality in model.quality.items():
            found = quality.faithfulness
            count = found.gain.count
            rows.append(
                [
                    f"{model.name}, {method}",
                    _interval(found.gain, "{:+.2f}"),
                    f"{found.deletion.mean:.2f} / {found.random_deletion.mean:.2f}",
                    f"{found.insertion.mean:.2f} / {found.random_insertion.mean:.2f}",
                    _interval(quality.randomization, "{:.2f}"),
                    _interval(quality.stability, "{:.2f}"),
                    quality.verdict,
                ]
            )
    return Section(
        "Do the maps deserve belief?",
        "Gain: area under the insertion curve minus that under the deletion curve, less the same "
        "of random maps; above 0, a map finds what counts better than chance. Random weights: rank "
        "correlation with the maps of the network with its weights shuffled; near 1, the maps show "
        "the image and not what the model has learnt. Noise: rank correlation with the maps of "
        "images with noise of standard deviation 0.01; near 1 is stable. Pixels are compared where "
        "either map has something.",
        tables=[
            Table(
                f"{count} images, 95 % bootstrap intervals",
                [
                    "maps",
                    "gain over random maps",
                    "deletion / random",
                    "insertion / random",
                    "random weights",
                    "noise",
                    "verdict",
                ],
                rows,
                wordy=True,
            )
        ],
    )


def _believed(name: str, table: QualityTable) -> Section:
    arrows = {
        measure: "↑" if MEASURES[measure].higher_is_better else "↓" for measure in table.measures
    }
    meanings = "; ".join(f"{measure}: {MEASURES[measure].words}" for measure in table.measures)
    head = ["maps", *(f"{measure} {arrow}" for measure, arrow in arrows.items()), "believe it?"]
    return Section(
        f"Which maps of {name} may be believed, and why?",
        f"↑ more is better, ↓ less; – cannot be told. {meanings}. {table.ranking.words}",
        tables=[
            Table(f"{table.count} images, 95 % bootstrap intervals", head, table.rows(), wordy=True)
        ],
    )


def _interval(found: Estimate | None, form: str) -> str:
    if found is None:
        return "too little to compare"
    ends = f"{form.format(found.low)} – {form.format(found.high)}"
    return f"{form.format(found.mean)} ({ends})".replace("-", "−")


def _ball(attack: Attack) -> str:
    norm = "L∞" if attack.norm == "inf" else "L2"
    return f"{attack.name}, {norm}, epsilon {attack.epsilon:.4g} for images in [0, 1]"


def _attack_facts(attack: Attack) -> dict[str, str]:
    return {
        "name": attack.name,
        **{
            key: f"{value:.6g}" if isinstance(value, float) else str(value)
            for key, value in vars(attack).items()
        },
    }
