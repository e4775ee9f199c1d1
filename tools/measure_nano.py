"""Measure a model on the held-out photos of the project's shared folder.

Example: python tools/measure_nano.py --model nano --shared ../shared --output runs/quality.json
prints the table of the model card; the protocol is told in labeling/quality.py. A run folder that
holds one stage only is measured with --only regions queries (CLIP) or --only proposals.
--compare runs/old.json also prints every number beside that of an earlier measurement.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from labeling.quality import PARTS, measure
from labeling.quality_table import compare, read_numbers, table
from maskclip.benchmarks.model import Model
from maskclip.json_file import write_json


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "measure_nano", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="nano", help="packaged name, checkpoint or run folder [nano]")
    add("--shared", required=True, help="folder that holds data/ and weights/")
    add("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure [everything]")
    add("--limit", type=int, help="measure on the first so many photos only")
    add("--device", default="cpu")
    add("--set", nargs="+", action="extend", default=[], metavar="K=V", help="clip.background=mean")
    add("--compare", metavar="JSON", help="what an earlier measurement wrote")
    add("--output", required=True, type=Path, metavar="JSON", help="where all numbers are written")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    logging.basicConfig(level=logging.WARNING, format="measure_nano: %(message)s")
    try:
        earlier = read_numbers(args.compare) if args.compare else None
        candidate = Model(args.model, overrides=tuple(args.set))
        choice = {"only": args.only, "limit": args.limit, "device": args.device}
        numbers = measure(candidate, args.shared, **choice)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.output, numbers)
    except (ValueError, OSError) as error:
        print(f"measure_nano: error: {error}", file=sys.stderr)
        return 2
    print(table(numbers))
    if earlier is not None:
        print(f"\nCompared with {args.compare}:\n\n{compare(earlier, numbers)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
