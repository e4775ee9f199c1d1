"""Segment sample photos, each by a few names of its own.

Example:
  python tools/demo.py --output output/demo
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

try:
    from maskclip.demo import load_demo
    from maskclip.prediction import Job, load_segmentor, report, segment_photos
except ModuleNotFoundError as missing:
    needed = f"demo: error: {missing.name} is missing: run `make setup`, use .venv/bin/python"
    print(needed, file=sys.stderr)
    raise SystemExit(2) from None

PHOTOS = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", required=True, type=Path, metavar="DIR", help="where the pictures go")
    add("--config", default=PHOTOS, type=Path, metavar="YAML", help="photos and names")
    add("--model", default="nano", help="packaged name, checkpoint folder or hub id [nano]")
    add("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    logging.basicConfig(level=logging.WARNING, format="demo: %(message)s")
    failed = 0
    try:
        jobs = [Job([path], names, args.output) for path, names in load_demo(args.config)]
        segmentor = load_segmentor(args.model, device=args.device)
        for job in jobs:
            failed += report(segment_photos(job, segmentor), 1, sys.stdout, sys.stderr)
    except (ValueError, OSError, RuntimeError) as error:
        print("demo: error:", *str(error).split(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"The pictures are in {args.output}: open {args.output}/*.overlay.png")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
