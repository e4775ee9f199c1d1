"""Make a checkpoint folder from published weights, or from what two trainings left.

Examples:
  python tools/convert_checkpoint.py --from ovseg --checkpoint ovseg_swinbase_vitL14_ft_mpt.pth
    --config ovseg-swinb-vitl14 --output models/ovseg-swinb
converts a published OVSeg checkpoint; --config is a preset (ovseg-r101c-vitb16,
ovseg-swinb-vitl14) or a JSON file with what the weights do not tell (docs/published_weights.md).
  python tools/convert_checkpoint.py --from clip --checkpoint clip.pth --output models/clip
converts a CLIP alone, in the original or open_clip's layout, for `predict.py --clip models/clip`.
  python tools/convert_checkpoint.py --from hub --checkpoint facebook/sam2.1-hiera-tiny
    --clip ViT-B-16/openai --output models/sam
joins a proposer of the hub (an id, or a folder that transformers saved; its weights stay in the
cache, the folder names them) with a CLIP.
  python tools/convert_checkpoint.py --from parts --proposal runs/proposal --clip runs/clip
    --output models/mine --set segmentor.background=threshold:0.3
joins both stages' run folders into models/mine, for `tools/predict.py --model models/mine`.
Nothing in a file of weights is executed.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

try:
    from maskclip.converting import convert_clip, convert_published
    from maskclip.joining import join_parts
except ModuleNotFoundError as missing:
    needed = f"convert_checkpoint: error: {missing.name} is missing: run `make setup`"
    print(needed, file=sys.stderr)
    raise SystemExit(2) from None

NEEDED = {
    "ovseg": ("checkpoint",),
    "clip": ("checkpoint",),
    "hub": ("checkpoint", "clip"),
    "parts": ("proposal", "clip"),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "convert_checkpoint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--from", dest="source", choices=list(NEEDED), required=True, help="what to start from")
    add("--checkpoint", metavar="PATH", help="a file of weights; hub: an id or folder")
    add("--config", metavar="JSON", help="a preset, or a JSON file with what the weights hide")
    add("--proposal", metavar="RUN", help="run folder of stage 1, or superpixels (parts)")
    add("--clip", metavar="RUN", help="run folder of stage 2, or an open_clip model (parts, hub)")
    add("--output", required=True, type=Path, metavar="DIR", help="the new checkpoint folder")
    add("--name", default="", help="what the model is called [the folder's name]")
    add("--half", action="store_true", help="store weights as float16, half as large")
    add("--set", nargs="+", action="extend", default=[], metavar="K=V", help="segmentor.* settings")
    args = parser.parse_args()
    lacking = [name for name in NEEDED[args.source] if getattr(args, name) is None]
    if lacking:
        parser.error(f"--from {args.source} needs --{lacking[0]}")
    if args.source == "clip" and args.set:
        parser.error("--set changes segmentor.* settings, of which a CLIP alone has none")
    return args


def convert(args: argparse.Namespace) -> int:
    stored = {"name": args.name, "half": args.half}
    if args.source in ("parts", "hub"):
        proposal = args.proposal if args.source == "parts" else f"hub:{args.checkpoint}"
        return join_parts(proposal, args.clip, args.output, overrides=args.set, **stored)
    if args.source == "clip":
        return convert_clip(args.checkpoint, args.output, config=args.config, **stored)
    return convert_published(
        args.checkpoint, args.output, config=args.config, overrides=args.set, **stored
    )


def main() -> int:
    args = parse_args()
    logging.basicConfig(level=logging.WARNING, format="convert_checkpoint: %(message)s")
    try:
        size = convert(args)
    except (ValueError, OSError, RuntimeError) as error:
        print("convert_checkpoint: error:", *str(error).split(), file=sys.stderr)
        return 2
    flag = "--clip" if args.source == "clip" else "--model"
    print(f"{args.output}: {size / 1e6:.1f} MB; try tools/predict.py {flag} {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
