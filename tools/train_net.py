"""Train one stage: the proposal network, CLIP on mask-noun pairs, or a CLIP's dense head.

Example: python tools/train_net.py --stage proposal --config configs/proposal_nano.yaml
--output runs/proposal_nano --set train.iterations=500
leaves in runs/proposal_nano a checkpoint folder (config.json, model.safetensors) that --proposer
and --clip of tools/predict.py take, metrics.jsonl, curves.png, TensorBoard events, run.json, and in
checkpoints/ what --resume needs. It can be stopped at any time, and killed. With --eval-only the
checkpoint in --output (or --init) is measured on the configuration's validation data.

Eight GPUs: --num-gpus 8. Two machines of eight: on each of them --num-gpus 8 --num-machines 2
--dist-url tcp://<address of machine 0>:29500, and --machine-rank 0 or 1.
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

warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)  # detectron2's own

# stage: where its configuration, train() and evaluate() are; imported when asked for
STAGES = {
    "proposal": (
        "proposal.training_config:ProposalTraining",
        "maskclip.proposal_names:train",
        "proposal.evaluation:evaluate",
    ),
    "clip": (
        "maskclip.adaptation:AdaptConfig",
        "maskclip.adaptation:train",
        "maskclip.adaptation:evaluate",
    ),
    "dense": (
        "maskclip.adaptation.dense_config:DenseTraining",
        "maskclip.adaptation.dense_training:train",
        "maskclip.adaptation.dense_training:evaluate",
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
    parser.add_argument(
        "--num-gpus", type=int, default=1, help="GPUs of this machine; CPU processes if it has none"
    )
    parser.add_argument("--num-machines", type=int, default=1, help="machines that train together")
    parser.add_argument("--machine-rank", type=int, default=0, help="which of them this is, from 0")
    parser.add_argument("--dist-url", default="auto", help="tcp://<machine 0>:<a free port>")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="a.b=value", help="settings"
    )
    return parser.parse_args()


def find(place: str) -> Any:
    """``module:name`` -> that object."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def work(args: argparse.Namespace, config: Any) -> None:
    """Train or measure, in each process."""
    from detectron2.utils import comm

    level = logging.INFO if comm.is_main_process() else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    _, train, evaluate = STAGES[args.stage]
    if not args.eval_only:
        find(train)(config, args.output, init=args.init, resume=args.resume)
    elif comm.is_main_process():
        for metric, value in find(evaluate)(config, args.init or args.output).items():
            print(f"{metric}: {value:.2f}")


def main() -> int:
    args = parse_args()
    try:
        from proposal.training_processes import Processes, start_processes

        config = load_config(find(STAGES[args.stage][0]), args.config, args.set)
        processes = Processes(
            args.num_gpus, args.num_machines, args.machine_rank, url=args.dist_url
        )
        start_processes(work, (args, config), processes)
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
