"""Give a model's own proposals the names that label maps have for their pixels.

Example: python tools/name_proposals.py --model nano --named runs/nano_data/named/coco
  --output runs/nano_data/pairs/proposals_coco
reads images/, labels/*.png and names.txt of a folder as tools/prepare_nano.py makes them, and
writes mask-noun pairs (Parquet) for tools/train_net.py --stage clip. A run that was stopped goes
on; a folder that is complete is left as it is.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)  # detectron2's own

try:
    import torch

    from labeling.proposal_pairs import NamingConfig, is_named, name_proposals
    from maskclip.segmentor import Segmentor
except ModuleNotFoundError as missing:
    needed = (
        f"name_proposals: error: {missing.name} is missing: run `make setup`, use .venv/bin/python"
    )
    print(needed, file=sys.stderr)
    raise SystemExit(2) from None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "name_proposals", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="nano", metavar="M", help="whose proposals (default: nano)")
    add("--proposer", metavar="P", help="a checkpoint or run folder instead of the model's")
    add("--named", required=True, type=Path, metavar="DIR", help="photos with label maps")
    add("--output", required=True, type=Path, metavar="DIR", help="the folder of pairs to make")
    purity, objectness = NamingConfig.min_purity, NamingConfig.min_objectness
    tell = "share of a proposal's pixels that must have its name, above 0.5 (default: %(default)s)"
    add("--min-purity", type=float, default=purity, metavar="P", help=tell)
    tell = "proposals that score less get no name (default: %(default)s)"
    add("--min-objectness", type=float, default=objectness, metavar="S", help=tell)
    add("--threads", type=int, default=1, metavar="N", help="CPU threads (default: 1)")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    try:
        config = NamingConfig(args.min_purity, args.min_objectness)
        if args.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {args.threads}")
        torch.set_num_threads(args.threads)
        told = {"model": args.model, "proposer": args.proposer, "named": str(args.named)}
        told |= asdict(config)
        if is_named(args.output, told):
            print(f"name_proposals: {args.output} is complete")
            return 0
        segmentor = Segmentor.from_pretrained(args.model, proposer=args.proposer)
        summary = name_proposals(segmentor, args.named, args.output, config, told)
    except (ValueError, OSError) as error:
        print("name_proposals: error:", *str(error).split(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("name_proposals: stopped; the same command goes on", file=sys.stderr)
        return 130
    print(f"{args.output}  {summary['pairs']:,} pairs  {summary['nouns']:,} nouns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
