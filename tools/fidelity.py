"""Compare a model with the published system's outputs, stage by stage.

Example:
  python tools/fidelity.py --reference ../shared/reference/swin
converts the folder's checkpoint on the fly, segments its photos, and prints the largest difference
of every stage beside what counts as equal. The exit code is 1 if one of them does not.
"""

from __future__ import annotations

import argparse
import logging
import sys

try:
    from maskclip.fidelity import compare_reference, format_table
except ModuleNotFoundError as missing:
    needed = f"fidelity: error: {missing.name} is missing: run `make setup`, use .venv/bin/python"
    print(needed, file=sys.stderr)
    raise SystemExit(2) from None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "fidelity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--reference",
        required=True,
        metavar="DIR",
        help="reference.pth, config.json, expected.safetensors, image_0.jpg ...",
    )
    parser.add_argument(
        "--model", metavar="DIR", help="a converted checkpoint folder instead of reference.pth"
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    logging.basicConfig(level=logging.WARNING, format="fidelity: %(message)s")
    try:
        differences = compare_reference(args.reference, args.model)
    except (ValueError, OSError, RuntimeError) as error:
        print("fidelity: error:", *str(error).split(), file=sys.stderr)
        return 2
    print(format_table(differences))
    return 0 if all(each.ok for each in differences) else 1


if __name__ == "__main__":
    sys.exit(main())
