"""What a classifier looks at, before and after an attack: python scripts/saliency_report.py.

Explains the models of a run (`runs/quickstart` by default) on its test images; open the page that
it prints in a browser.
"""

import sys

import robustcls as rc

run = sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart"
splits = rc.load("fashion_mnist_mini")
models = {name: f"{run}/{name}/model.keras" for name in ("base", "adversarial")}

explanations = rc.explain(
    models,
    splits,
    "saliency_report",
    attack=rc.attacks.PGD(epsilon=0.05, steps=20),
    methods=["gradients", "smoothgrad", "grad_cam"],
    limit=24,
    only="correct",
    progress=True,
)
for model in explanations.models:
    print(f"{model.name}: the attack turns {model.flipped.sum()} of {len(model.flipped)} images")
    for method, quality in model.quality.items():
        print(f"  {method:12} {quality.verdict}")
print(explanations.path)
