"""Measure how often labelled pairs lie on the right object of photos with ground truth.

Example: python tools/measure_labels.py --model nano --shared ../shared --output runs/labels.json
prints the table of docs/labeling.md; the protocol is told in labeling/worth.py.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

try:
    from labeling.worth import PROPOSERS, Truth, measure_worth, table
    from maskclip.json_file import write_json
    from maskclip.prediction import load_segmentor
except ModuleNotFoundError as missing:
    needed = f"measure_labels: error: {missing.name} is missing: run `make setup`, "
    print(needed + "use .venv/bin/python", file=sys.stderr)
    raise SystemExit(2) from None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "measure_labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="nano", help="packaged name, checkpoint folder or hub id [nano]")
    add("--clip", metavar="C", help="an open_clip model, ViT-B-16/openai, instead of the model's")
    add("--shared", required=True, help="folder that holds data/coco and data/splits")
    add(
        "--proposers",
        nargs="+",
        choices=PROPOSERS,
        default=PROPOSERS,
        help="the model's own masks, superpixels, ground truth [all three]",
    )
    add("--limit", type=int, metavar="N", help="the first so many photos of each split only")
    add("--device", default="cpu")
    add("--set", nargs="+", action="extend", default=[], metavar="K=V", help="clip.background=mean")
    add("--output", required=True, type=Path, metavar="JSON", help="where all numbers are written")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    logging.basicConfig(level=logging.WARNING, format="measure_labels: %(message)s")
    try:
        segmentor = load_segmentor(
            args.model, clip=args.clip, device=args.device, overrides=args.set
        )
        truth = Truth.load(args.shared, args.limit)
        numbers = measure_worth(segmentor, truth, proposers=args.proposers)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.output, {"model": args.model, "proposals": numbers})
    except (ValueError, OSError) as error:
        print("measure_labels: error:", *str(error).split(), file=sys.stderr)
        return 2
    print(table(numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
