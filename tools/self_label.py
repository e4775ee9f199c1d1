"""Turn captioned photos into mask–noun pairs, for `train_net.py --stage clip` to read.

Example:
  python tools/self_label.py --images photos/ --captions captions.json --output output/pairs
writes pairs-00000.parquet ..., summary.json, run.json, manifest.jsonl and skipped.jsonl. Stopped
or killed, the same command goes on where it was. Captions: COCO captions JSON, a TSV of file and
caption, or JSONL such as {"file": "x.jpg", "caption": "a cat"}.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

try:
    from labeling.label_config import LabelConfig
    from labeling.matching import MatchConfig
    from labeling.nouns import NounConfig
    from labeling.self_label import Job, self_label
except ModuleNotFoundError as missing:
    needed = f"self_label: error: {missing.name} is missing: run `make setup`, use .venv/bin/python"
    print(needed, file=sys.stderr)
    raise SystemExit(2) from None


def count(text: str) -> int:
    if text != "all" and not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"expected all or a number from 1 on, got {text!r}")
    return 0 if text == "all" else int(text)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "self_label", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="DIR", help="folder of the photos")
    add("--captions", type=Path, required=True, metavar="FILE", help=".json, .tsv or .jsonl")
    add("--output", required=True, type=Path, metavar="DIR", help="where the pairs go")
    add("--model", default="nano", help="packaged name, checkpoint folder or hub id [nano]")
    add("--proposer", metavar="P", help="superpixels, hub:ID, files:FOLDER instead of the model's")
    add("--clip", metavar="C", help="an open_clip model, ViT-B-16/openai, instead of the model's")
    add("--device", default="auto", metavar="D", help="auto, cpu, mps, cuda (all GPUs) or cuda:1")
    add("--engine", default="local", choices=["local", "ray"], help="ray obeys RAY_ADDRESS [local]")
    add("--workers", type=int, metavar="N", help="processes [one for each GPU or core]")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads of each [1]")
    add("--batch-size", type=int, default=32, metavar="N", help="regions CLIP reads at once [32]")
    add("--shard-size", type=int, default=200, metavar="N", help="photos in one file [200]")
    add(
        "--captions-per-image",
        type=count,
        default=0,
        metavar="1|5|all",
        help="the first so many [all]",
    )
    add("--parser", default="spacy", choices=["spacy", "nltk"], help="what finds nouns [spacy]")
    add(
        "--stop-nouns",
        default="default",
        metavar="F",
        help="a file, a noun a line, instead of ours",
    )
    add("--no-compounds", action="store_true", help='"traffic light" becomes traffic and light')
    add("--no-lemmas", action="store_true", help="nouns stay as written, plurals included")
    add("--top-k", type=int, default=1, metavar="K", help="regions kept for each noun [1]")
    add("--min-score", type=float, default=-1.0, metavar="S", help="least cosine [-1]")
    add("--min-probability", type=float, default=0.0, metavar="P", help="against other nouns [0]")
    add("--min-area", type=float, default=0.0, metavar="A", help="pixels, or a share below 1 [0]")
    add("--max-area", type=float, default=1.0, metavar="A", help="pixels, or a share up to 1 [1]")
    add("--duplicates", action="store_true", help="a row for every caption that says the noun")
    add("--export", choices=["coco", "crops"], help="also write the finished pairs in this form")
    add(
        "--set", nargs="+", action="extend", default=[], metavar="K=V", help="segmentor.compat=true"
    )
    return parser.parse_args()


def read_config(args: argparse.Namespace) -> LabelConfig:
    nouns = NounConfig(
        parser=args.parser,
        compounds=not args.no_compounds,
        lemmatise=not args.no_lemmas,
        stop_nouns=args.stop_nouns,
    )
    match = MatchConfig(
        top_k=args.top_k,
        min_score=args.min_score,
        min_probability=args.min_probability,
        min_area=args.min_area,
        max_area=args.max_area,
        duplicates=args.duplicates,
    )
    return LabelConfig(
        model=args.model,
        proposer=args.proposer,
        clip=args.clip,
        overrides=tuple(args.set),
        batch_size=args.batch_size,
        threads=args.threads,
        captions_per_image=args.captions_per_image,
        shard_size=args.shard_size,
        nouns=nouns,
        match=match,
    )


def main() -> int:
    args = parse_args()
    logging.basicConfig(level=logging.WARNING, format="self_label: %(message)s")
    try:
        config, workers = read_config(args), args.workers
        job = Job(
            args.images, args.captions, args.output, config, args.engine, workers, args.device
        )
        summary = self_label(job)
    except (ValueError, OSError, RuntimeError) as error:
        print("self_label: error:", *str(error).split(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("self_label: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(summary["pairs"], "pairs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
