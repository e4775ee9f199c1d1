"""Make a checkpoint folder from what two trainings left.

Example:
  python tools/convert_checkpoint.py --from parts --proposal runs/proposal --clip runs/clip
    --output models/mine --set segmentor.background=threshold:0.3
joins both stages' run folders into models/mine, for `tools/predict.py --model models/mine`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

try:
    from maskclip.joining import join_parts
except ModuleNotFoundError as missing:
    needed = f"convert_checkpoint: error: {missing.name} is missing: run `make setup`"
    print(needed, file=sys.stderr)
    raise SystemExit(2) from None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "convert_checkpoint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--from", dest="source", choices=["parts"], required=True, help="what to start from")
    add("--proposal", required=True, metavar="RUN", help="run folder of stage 1, or superpixels")
    add("--clip", required=True, metavar="RUN", help="run folder of stage 2, or an open_clip model")
    add("--output", required=True, type=Path, metavar="DIR", help="the new checkpoint folder")
    add("--name", default="", help="what the model is called [the folder's name]")
    add("--half", action="store_true", help="store weights as float16, half as large")
    add("--set", nargs="+", action="extend", default=[], metavar="K=V", help="segmentor.* settings")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    logging.basicConfig(level=logging.WARNING, format="convert_checkpoint: %(message)s")
    try:
        size = join_parts(
            args.proposal,
            args.clip,
            args.output,
            name=args.name,
            overrides=args.set,
            half=args.half,
        )
    except (ValueError, OSError, RuntimeError) as error:
        print("convert_checkpoint: error:", *str(error).split(), file=sys.stderr)
        return 2
    print(f"{args.output}: {size / 1e6:.1f} MB; try tools/predict.py --model {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
