"""Measure a model on a benchmark, or on photos and label PNGs of your own.

Examples:
  python tools/evaluate.py --model nano --dataset ade150 --output runs/ade150.json
  python tools/evaluate.py --images photos --labels labels --classes-file names.txt --output m.json
  python tools/evaluate.py --task proposals --instances coco.json --images photos --output ar.json
A label PNG has the stem of its photo, and its values are indices into the class list. Stopped, an
evaluation goes on where it was when it is called again. docs/evaluation.md tells the protocol.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

try:
    from maskclip.benchmarks.evaluate import EvaluationJob, evaluate, split_settings, summarise
    from maskclip.benchmarks.model import Model
    from maskclip.benchmarks.runner import Workforce
except ModuleNotFoundError as missing:
    needed = f"evaluate: error: {missing.name} is missing: run `make setup`, use .venv/bin/python"
    print(needed, file=sys.stderr)
    raise SystemExit(2) from None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="nano", help="packaged name, checkpoint folder or hub id [nano]")
    add("--task", default="semantic", help="semantic, proposals (recall), regions (true masks)")
    add("--dataset", metavar="NAME", help="ade150, voc20, ...: made by tools/prepare_data.py")
    add("--images", metavar="DIR", help="or a folder of photos,")
    add("--labels", metavar="DIR", help="a folder of label PNGs of the same stems,")
    add("--classes-file", metavar="F", help="and their names in label order, one a line")
    add("--ignore", type=int, metavar="N", help="label that is not counted [255; 65535 in 16 bits]")
    add("--instances", metavar="JSON", help="COCO instances, for --task proposals and regions")
    add("--seen-file", metavar="F", help="names seen in training, one a line: adds hIoU")
    add("--oracle", choices=["masks", "classes"], help="true masks, or true classes of proposals")
    add("--search", nargs="+", default=[], metavar="K=A,B", help="fusion_weight=0,0.5,1 ...")
    add("--proposer", metavar="P", help="superpixels, hub:ID, files:FOLDER instead of the model's")
    add("--clip", metavar="C", help="an open_clip model, ViT-B-16/openai, instead of the model's")
    add("--background", default="none", metavar="B", help="none, threshold:T or NAME,... [none]")
    add("--device", default="auto", help="auto, cpu, cuda, mps [auto]")
    add("--batch-size", type=int, default=4, metavar="N", help="photos at a time [4]")
    add("--workers", type=int, default=1, metavar="N", help="processes, spread over the GPUs [1]")
    add("--data-root", type=Path, default=Path("data"), metavar="DIR", help="prepared sets [data]")
    add("--report", type=Path, metavar="DIR", help="also write DIR/index.html to look at")
    add("--limit", type=int, metavar="N", help="the first so many photos only")
    add("--set", nargs="+", action="extend", default=[], metavar="K=V", help="data.commas=first")
    add("--output", required=True, type=Path, metavar="JSON", help="where the metrics go")
    return parser.parse_args()


def main() -> int:
    args = vars(parse_args())
    logging.basicConfig(level=logging.WARNING, format="evaluate: %(message)s")
    try:
        own, data = split_settings(args.pop("set"))
        parts = {name: args.pop(name) for name in ("model", "proposer", "clip", "background")}
        force = {name: args.pop(name) for name in ("device", "workers", "batch_size")}
        search = tuple(args.pop("search"))
        model, workforce = Model(**parts, overrides=own), Workforce(**force)
        job = EvaluationJob(model, **args, search=search, settings=data, workforce=workforce)
        metrics = evaluate(job)
    except (ValueError, OSError, RuntimeError) as error:
        print("evaluate: error:", *str(error).split(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evaluate: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"{summarise(metrics)} ({metrics['photos']} photos): {job.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
