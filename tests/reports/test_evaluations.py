"""Names of evaluations, and links between the pages of a run."""

import json
import re

import pytest

from robustcls import InputError
from robustcls.reports.evaluations import (
    LINKS,
    choose_evaluation,
    evaluation_folder,
    link_pages,
)

SETTINGS = {"epsilon": 0.03, "attack": ("fgsm", "pgd"), "corruptions": None, "trust": False}


def keep(folder, settings):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps({"settings": settings}))


def test_no_evaluation_overwrites_one_with_other_settings(tmp_path):
    assert choose_evaluation(tmp_path, SETTINGS) == "default"
    keep(tmp_path, SETTINGS)
    assert choose_evaluation(tmp_path, SETTINGS) == "default"
    other = SETTINGS | {"epsilon": 8 / 255, "attack": ["fgsm"], "corruptions": "a/b c"}
    name = choose_evaluation(tmp_path, other)
    assert name == "epsilon-0.03137-attack-fgsm-corruptions-b-c"
    assert evaluation_folder(tmp_path, name) == tmp_path / "evaluations" / name
    assert choose_evaluation(tmp_path, other, resume=True) == "default"
    assert choose_evaluation(tmp_path, other, name="größer") == "größer"
    keep(tmp_path / "evaluations" / "größer", other)
    assert choose_evaluation(tmp_path, other, name="größer") == "größer"
    assert choose_evaluation(tmp_path, SETTINGS, name="größer", resume=True) == "größer"
    for given, settings in (("größer", SETTINGS), ("default", other)):
        with pytest.raises(InputError, match=f"name must be free.*{given}.*another --name"):
            choose_evaluation(tmp_path, settings, name=given)
    # Names are rounded, and a folder is its last part.
    for first, second in ((0.031372549, 0.031372), ("a/cracks", "b/cracks")):
        near = [SETTINGS | {"epsilon": 0.5, "attack": value} for value in (first, second)]
        keep(evaluation_folder(tmp_path, choose_evaluation(tmp_path, near[0])), near[0])
        names = [choose_evaluation(tmp_path, settings) for settings in near]
        assert names[1].startswith(f"{names[0]}-")
    # A run of 0.1 knows fewer settings.
    assert choose_evaluation(tmp_path, SETTINGS | {"novel": 3}) == "default"
    long = SETTINGS | {"corruptions": "x" * 300}
    names = {choose_evaluation(tmp_path, long | {"epsilon": eps}) for eps in (0.1, 0.2)}
    assert len(names) == 2
    assert max(map(len, names)) < 80


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", " a", "a\nb", "x" * 101, "a:b"])
def test_names_that_do_not_do(name, tmp_path):
    with pytest.raises(InputError, match="name must do as the name of a folder"):
        evaluation_folder(tmp_path, name)


def linked(path):
    return re.findall(r'href="([^"]*)">([^<]*)<', path.read_text(encoding="utf-8"))


def test_pages_of_a_run_lead_to_each_other(tmp_path):
    def page(*parts):
        path = tmp_path.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<h1>ä</h1>{LINKS}<p>", encoding="utf-8")
        return path

    first = page("report", "evaluation.html")
    link_pages(tmp_path)
    assert linked(first) == []
    page("report", "explanations.html")
    link_pages(tmp_path)
    assert linked(first) == [("explanations.html", "Explanations")]
    second = page("evaluations", "ö & 1", "report", "evaluation.html")
    link_pages(second.parents[1])
    assert linked(first) == [
        ("explanations.html", "Explanations"),
        ("../evaluations/%C3%B6%20%26%201/report/evaluation.html", "Evaluation: ö &amp; 1"),
    ]
    assert linked(second)[0] == ("../../../report/evaluation.html", "Evaluation: default")
    assert '<li aria-current="page">Evaluation: ö &amp; 1</li>' in second.read_text()
    before = first.stat().st_mtime_ns
    link_pages(tmp_path)
    assert first.stat().st_mtime_ns == before
