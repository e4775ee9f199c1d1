"""Train one stage: the proposal network, or CLIP on mask-noun pairs.

Example: python tools/train_net.py --stage proposal --config configs/proposal_nano.yaml
--output runs/proposal_nano --set train.iterations=500
leaves in runs/proposal_nano a checkpoint folder (config.json, model.safetensors), metrics.jsonl,
TensorBoard events and what --resume needs. It can be stopped at any time. With --eval-only the
checkpoint in --output (or --init) is measured on the configuration's validation photos.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

try:
    from proposal.configuration import load_config
except ModuleNotFoundError as missing:
    needed = f"train_net: error: {missing.name} is missing: run `make setup`, use .venv/bin/python"
    print(needed, file=sys.stderr)
    raise SystemExit(2) from None

# stage: where its configuration, train() and evaluate() are; imported when asked for
STAGES = {
    "proposal": (
        "proposal.training_config:ProposalTraining",
        "proposal.training:train",
        "proposal.evaluation:evaluate",
    ),
    "clip": (
        "maskclip.adaptation:AdaptConfig",
        "maskclip.adaptation:train",
        "maskclip.adaptation:evaluate",
    ),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=sorted(STAGES), required=True)
    parser.add_argument("--config", type=Path, required=True, help="YAML, see configs/")
    parser.add_argument("--output", type=Path, required=True, help="run folder")
    parser.add_argument("--init", type=Path, help="checkpoint or run folder to start from")
    parser.add_argument("--resume", action="store_true", help="go on with what --output holds")
    parser.add_argument("--eval-only", action="store_true", help="measure, do not train")
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs of this machine to train on")
    parser.add_argument("--set", nargs="*", default=[], metavar="a.b=value", help="settings")
    return parser.parse_args()


def find(place: str) -> Any:
    """``module:name`` -> that object."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def work(args: argparse.Namespace) -> None:
    """Train or measure, in each process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)  # detectron2's own
    settings, train, evaluate = STAGES[args.stage]
    config = load_config(find(settings), args.config, args.set)
    if args.eval_only:
        for metric, value in find(evaluate)(config, args.init or args.output).items():
            print(f"{metric}: {value:.2f}")
        return
    find(train)(config, args.output, init=args.init, resume=args.resume)


def main() -> int:
    args = parse_args()
    try:
        if args.num_gpus > 1:
            from detectron2.engine import launch

            launch(work, args.num_gpus, dist_url="auto", args=(args,))
        else:
            work(args)
    except ModuleNotFoundError as missing:  # detectron2, which only training needs
        print(f"train_net: error: {missing.name} is missing: run `make setup`", file=sys.stderr)
        return 2
    except (ValueError, OSError, RuntimeError) as error:
        print(f"train_net: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"train_net: stopped; go on with --resume --output {args.output}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
