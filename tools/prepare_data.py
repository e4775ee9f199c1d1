"""Turn a data set's official download into what tools/evaluate.py reads.

Example:
  python tools/prepare_data.py ade150 --source downloads/ADEChallengeData2016 --output data/ade150
writes data/ade150/images (links to the photos), labels (PNG, value = index into names.txt, 255 or
65535 = not counted) and prepared.json, after checking counts and label ranges. Stopped, it goes on
where it was. docs/evaluation.md says what to download for each data set.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

try:
    from maskclip.datasets.description import DESCRIPTIONS
    from maskclip.datasets.preparation import Preparation, prepare
except ModuleNotFoundError as missing:
    needed = f"prepare_data: error: {missing.name} is missing: run `make setup`"
    print(needed + ", use .venv/bin/python", file=sys.stderr)
    raise SystemExit(2) from None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "prepare_data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join(sorted(path.stem for path in DESCRIPTIONS.glob("*.yaml")))
    add = parser.add_argument
    add("dataset", help=f"{known}; or a description of your own (YAML)")
    add("--source", required=True, type=Path, metavar="DIR", help="where the download is unpacked")
    add("--output", type=Path, metavar="DIR", help="where it goes [data/DATASET]")
    add("--split", default="", help="validation, train, ... [the one that is evaluated on]")
    add("--photos", metavar="F", help="a text file, one photo a line: prepare these only")
    add("--classes-file", metavar="F", help="of instances: paint these names only")
    add("--copy", action="store_true", help="copy the photos instead of linking them")
    add("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes [all]")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    logging.basicConfig(level=logging.WARNING, format="prepare_data: %(message)s")
    choice = {"photos": args.photos, "classes_file": args.classes_file, "copy": args.copy}
    try:
        report, *warnings = prepare(
            Preparation(
                args.dataset, args.source, args.output, args.split, workers=args.workers, **choice
            )
        ).lines()
    except (ValueError, OSError, RuntimeError) as error:
        print("prepare_data: error:", *str(error).split(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("prepare_data: stopped; run it again to go on", file=sys.stderr)
        return 130
    for warning in warnings:
        print("prepare_data:", warning, file=sys.stderr)
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
