"""Make the training data of the packaged model from the project's shared folder.

Example: python tools/prepare_nano.py --shared ../shared --output runs/nano_data
writes runs/nano_data/pairs/<set>/ (mask-noun pairs, Parquet), runs/nano_data/regions/<set>/
(photos with region PNGs) and runs/nano_data/named/<set>/ (photos with label PNGs). Sets that are
complete are left as they are. No photo of data/splits/coco_val.txt is in any of them.
"""

from __future__ import annotations

import argparse
import logging
import sys

try:
    from labeling.prepare import Preparation, PrepareConfig
    from labeling.regions import RegionConfig
except ModuleNotFoundError as missing:
    needed = (
        f"prepare_nano: error: {missing.name} is missing: run `make setup`, use .venv/bin/python"
    )
    print(needed, file=sys.stderr)
    raise SystemExit(2) from None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", required=True, help="folder that holds data/ and weights/")
    parser.add_argument("--output", required=True, help="where pairs/, regions/, named/ are made")
    parser.add_argument("--coarse", action="store_true", help="also pairs with coarser names")
    parser.add_argument(
        "--research-only",
        action="store_true",
        help="also sets that are for research or non-commercial use only (labelmefacade,"
        " bsds500_train, flickr8k_1000)",
    )
    parser.add_argument("--min-fraction", type=float, default=RegionConfig.min_fraction)
    parser.add_argument("--min-confidence", type=float, default=RegionConfig.min_confidence)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    regions = RegionConfig(args.min_fraction, args.min_confidence)
    config = PrepareConfig(args.coarse, args.research_only, regions)
    try:
        preparation = Preparation(args.shared, args.output, config)
        preparation.prepare()
    except (ValueError, OSError) as error:
        print(f"prepare_nano: error: {error}", file=sys.stderr)
        return 2
    for name, summary in preparation.summaries().items():
        counts = {key: value for key, value in summary.items() if isinstance(value, int)}
        print(name, *(f"{value:,} {key}" for key, value in counts.items()), sep="  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
