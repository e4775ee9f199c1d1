"""Segment photos by any list of names.

Example:
  python tools/predict.py --input photos/ --classes "cat,sofa|couch,floor" --output output/photos
writes output/photos/x.overlay.png (look at it), x.labels.png and x.json for each photos/x.jpg.
"""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import closing
from pathlib import Path

try:
    from maskclip.prediction import Job, choose_names, load_segmentor, predict, report
except ModuleNotFoundError as missing:
    needed = f"predict: error: {missing.name} is missing: run `make setup`, use .venv/bin/python"
    print(needed, file=sys.stderr)
    raise SystemExit(2) from None

KINDS = "overlay,labels,json"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--input", nargs="+", required=True, metavar="PATH", help="photos, folders or globs")
    names = parser.add_mutually_exclusive_group(required=True)
    names.add_argument(
        "--classes", metavar="NAMES", help=r"a,b|b2,c (| joins synonyms, \, is a comma)"
    )
    names.add_argument("--classes-file", metavar="F", help="a text file, one name a line")
    add("--output", required=True, type=Path, metavar="DIR", help="where the results go")
    add("--model", default="nano", help="packaged name, checkpoint folder or hub id [nano]")
    add("--proposer", metavar="P", help="superpixels, hub:ID, files:FOLDER instead of the model's")
    add("--clip", metavar="C", help="an open_clip model, ViT-B-16/openai, instead of the model's")
    add("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    add("--background", metavar="B", help="none, threshold:T or NAME,... [the model's]")
    add("--save", default=KINDS, metavar="KINDS", help=f"also masks, embeddings [{KINDS}]")
    add("--batch-size", type=int, default=4, metavar="N", help="photos at a time [4]")
    add(
        "--set", nargs="+", action="extend", default=[], metavar="K=V", help="segmentor.compat=true"
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    logging.basicConfig(level=logging.WARNING, format="predict: %(message)s")
    try:
        names = choose_names(args.classes, args.classes_file)
        job = Job(args.input, names, args.output, args.save.split(","), args.batch_size)
        segmentor = load_segmentor(
            args.model,
            proposer=args.proposer,
            clip=args.clip,
            device=args.device,
            background=args.background,
            overrides=args.set,
        )
        with closing(predict(job, segmentor)) as outcomes:
            failed = report(outcomes, len(job.photos), sys.stdout, sys.stderr)
    except (ValueError, OSError, RuntimeError) as error:
        print("predict: error:", *str(error).split(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("predict: stopped; what is written is whole", file=sys.stderr)
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
