"""What a step of stage 1's training costs: seconds and peak memory, for several settings.

Example: python tools/measure_training.py --config configs/proposal_r101c_vitb16.yaml --images 2
prints a Markdown table (seconds by the clock and of the CPU, peak memory): as configured, then with
points instead of pixels, bfloat16, checkpointed blocks. Photos and weights are random: nothing has
to be downloaded. --variant "a.b=1 c.d=2" measures that instead, and may be repeated.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

try:
    from maskclip.timing import describe_machine
    from proposal.configuration import load_config
    from proposal.training_config import ProposalTraining
    from proposal.training_speed import measure_step
except ModuleNotFoundError as missing:
    needed = f"measure_training: error: {missing.name} is missing: run `make setup`"
    print(needed + ", use .venv/bin/python", file=sys.stderr)
    raise SystemExit(2) from None

warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)  # detectron2's own
VARIANTS = (
    "",
    "criterion.points=12544",
    "train.precision=bfloat16",
    "train.gradient_checkpointing=true",
    "criterion.points=12544 train.precision=bfloat16 train.gradient_checkpointing=true",
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config", type=Path, required=True, help="YAML of stage 1, see configs/")
    add("--images", type=int, default=2, help="crops in a step [2]")
    add("--masks", type=int, default=8, help="masks in a crop [8]")
    add("--repeats", type=int, default=3, help="the fastest of so many steps counts [3]")
    add("--variant", action="append", metavar="SETTINGS", help="instead of the usual rows")
    args = parser.parse_args()
    if min(args.images, args.masks, args.repeats) < 1:
        parser.error("--images, --masks and --repeats must be at least 1")
    return args


def main() -> int:
    args = parse_args()
    print(describe_machine())
    print(f"{args.config}, {args.images} crops of {args.masks} masks a step\n")
    print("| settings | seconds a step | CPU seconds | peak memory (MiB) |\n|---|---:|---:|---:|")
    try:
        for variant in args.variant or VARIANTS:
            config = load_config(ProposalTraining, args.config, variant.split())
            cost = measure_step(config, images=args.images, masks=args.masks, repeats=args.repeats)
            numbers = f"{cost.seconds:.1f} | {cost.cpu_seconds:.1f} | {cost.peak_mib:,.0f}"
            print(f"| {variant or 'as configured'} | {numbers} |", flush=True)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"measure_training: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
