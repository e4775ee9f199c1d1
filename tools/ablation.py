"""Reproduce the paper's ablation in small: train, self-label, measure, compare, tell.

Example: python tools/ablation.py --config configs/ablation.yaml --report docs/ablation.md
writes docs/ablation.md and docs/ablation.json anew after every run. It can be stopped at any time,
and killed: the same command goes on where it was. What the recipe says is in the YAML file.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)  # detectron2's own

try:
    from labeling.ablation.recipe import Recipe
    from labeling.ablation.study import Study
    from proposal.heap import keep_freed_memory
except ModuleNotFoundError as missing:
    needed = f"ablation: error: {missing.name} is missing: run `make setup`, use .venv/bin/python"
    print(needed, file=sys.stderr)
    raise SystemExit(2) from None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "ablation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config", required=True, type=Path, metavar="YAML", help="the recipe")
    add("--report", required=True, type=Path, metavar="MD", help="where tables and verdicts go")
    add("--proposer", metavar="P", help="a checkpoint or run folder instead of the recipe's")
    add("--limit", type=int, metavar="N", help="try out: so many photos to measure, to label")
    add("--only-report", action="store_true", help="write what is there, train nothing")
    add("--set", nargs="+", action="extend", default=[], metavar="K=V", help="fusion_weight=0.5")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    logging.basicConfig(level=logging.WARNING, format="ablation: %(message)s")
    keep_freed_memory()
    overrides = [f"proposer={args.proposer}"] if args.proposer else []
    try:
        study = Study(Recipe.load(args.config, [*overrides, *args.set]), limit=args.limit)
        if args.only_report:
            study.report(args.report)
        else:
            study.execute(args.report)
    except (ValueError, OSError, RuntimeError) as error:
        print("ablation: error:", *str(error).split(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ablation: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(args.report.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
