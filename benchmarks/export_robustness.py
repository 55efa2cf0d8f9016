"""Every export format beside float32: accuracy, also changed, size and latency.

    python benchmarks/export_robustness.py

Exports a model in each format into a temporary folder, which measures it on the test images, and
writes a table: `benchmarks/results/export_robustness.json` and `.md`.
"""

import argparse
import json
import tempfile
from pathlib import Path

from robustcls.serving.exports.exporting import FORMATS, export_model_file

RESULTS = Path(__file__).parent / "results"
ZOO = Path(__file__).parents[1] / "robustcls" / "models" / "zoo"
HEAD = (
    "| format | accuracy, % | noise, % | PGD on float32, % | Square on itself, % "
    "| ms for 1 image | ms for 32 | MB |"
)


def line(name: str, row: dict) -> str:
    """Returns a row of the table."""
    shares = [f"{100 * row[key]['value']:.2f}" for key in ("accuracy", "noise", "pgd", "square")]
    times = [f"{row['milliseconds'][size]:.2f}" for size in ("1", "32")]
    return f"| {name} | {' | '.join(shares + times)} | {row['megabytes']:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(ZOO / "fashion_mnist_mini_linf_0.1_ibp.keras"))
    parser.add_argument("--data", default="fashion_mnist_mini")
    chosen = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS[1:]:
            version = export_model_file(
                chosen.model, Path(folder) / name, data=chosen.data, name="model", format=name
            )
            found[name] = json.loads((version / "comparison.json").read_text())
    said = next(iter(found.values()))
    rows = {"float32": said["measured"]["float32"]}
    rows |= {name: one["measured"][name] for name, one in found.items()}
    table = [HEAD, "|---" + "|---:" * 7 + "|", *(line(name, row) for name, row in rows.items())]
    changes = "; ".join(f"{name}: {words}" for name, words in said["changed_by"].items())
    note = (
        f"{Path(chosen.model).name} on {said['images']} test images; changed ones: the same "
        f"{said['changed_images']} of them, {changes}. {said['machine']}."
    )
    (RESULTS / "export_robustness.json").write_text(
        json.dumps({"note": note, "rows": rows}, indent=1)
    )
    (RESULTS / "export_robustness.md").write_text("\n".join([*table, "", note, ""]))
    print("\n".join([*table, "", note]))


if __name__ == "__main__":
    main()
