"""Turn captioned photos into mask–noun pairs, which `train_net.py --stage clip` reads.

Example:
  python tools/self_label.py --images photos/ --captions captions.json --output output/pairs
writes pairs-00000.parquet ..., summary.json, the contact sheet pairs.html (look at it) and lists of
what was done (run.json, manifest.jsonl) and left out (skipped.jsonl). Captions are COCO captions
JSON, a TSV of file and caption, or JSONL such as {"file": "x.jpg", "caption": "a cat"}. Stopped or
killed, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

try:
    from labeling.label_config import LabelConfig
    from labeling.matching import MatchConfig
    from labeling.nouns import NounConfig
    from labeling.self_label import Job, export_finished, read_summary, self_label, tell
except ModuleNotFoundError as missing:
    needed = f"self_label: error: {missing.name} is missing: run `make setup`, use .venv/bin/python"
    print(needed, file=sys.stderr)
    raise SystemExit(2) from None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "self_label", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=Path, metavar="DIR", help="folder that the captions' paths start from")
    add("--captions", type=Path, metavar="FILE", help=".json, .tsv or .jsonl")
    add("--output", required=True, type=Path, metavar="DIR", help="where the pairs go")
    add("--export", choices=["coco", "crops"], help="also in this form; alone: a finished --output")
    add = parser.add_argument_group("who labels").add_argument
    add("--model", default="nano", help="packaged name, checkpoint folder or hub id [nano]")
    add("--proposer", metavar="P", help="superpixels, hub:ID, files:FOLDER instead of the model's")
    add("--clip", metavar="C", help="an open_clip model, ViT-B-16/openai, instead of the model's")
    add(
        "--set", nargs="+", action="extend", default=[], metavar="K=V", help="segmentor.compat=true"
    )
    add = parser.add_argument_group("what is a noun").add_argument
    add("--captions-per-image", default="all", metavar="1|5|all", help="the first so many [all]")
    add("--parser", default="spacy", choices=["spacy", "nltk"], help="what finds nouns [spacy]")
    add(
        "--stop-nouns", default="default", metavar="F", help="nouns to leave out, one a line [ours]"
    )
    add("--no-compounds", action="store_false", dest="compounds", help="traffic light: two nouns")
    add("--no-lemmas", action="store_false", dest="lemmatise", help="nouns as written, plurals too")
    add = parser.add_argument_group("what is a pair").add_argument
    add("--top-k", type=int, default=1, metavar="K", help="regions kept for each noun [1]")
    add("--min-score", type=float, default=-1.0, metavar="S", help="least cosine [-1]")
    add("--min-probability", type=float, default=0.0, metavar="P", help="among all nouns [0]")
    add("--min-area", type=float, default=0.0, metavar="A", help="pixels; below 1 a share [0]")
    add("--max-area", type=float, default=1.0, metavar="A", help="pixels; up to 1 a share [1]")
    add("--objectness-power", type=float, default=1.0, metavar="W", help="in the ranking [1]")
    add("--area-power", type=float, default=0.25, metavar="W", help="likewise [0.25]; paper: 0, 0")
    add("--duplicates", action="store_true", help="a row for each caption with the noun, not one")
    add = parser.add_argument_group("how it runs; engine and workers change no row").add_argument
    add("--engine", default="local", choices=["local", "ray"], help="ray obeys RAY_ADDRESS [local]")
    add("--workers", type=int, metavar="N", help="processes [one for each GPU, or for each core]")
    add("--device", default="auto", metavar="D", help="auto, cpu, mps, cuda (all), cuda:1 [auto]")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads of each worker [1]")
    add("--batch-size", type=int, metavar="N", help="regions CLIP reads at once [the model's]")
    add("--shard-size", type=int, default=200, metavar="N", help="photos in one file [200]")
    args = parser.parse_args()
    if not args.export and not (args.images and args.captions):
        parser.error("--images and --captions are needed (but for --export of a finished --output)")
    return args


def read_job(args: argparse.Namespace) -> Job:
    def pick(*names: str) -> dict[str, object]:
        return {name: getattr(args, name) for name in names}

    ranking = ("min_area", "max_area", "objectness_power", "area_power")
    config = LabelConfig(
        **pick("model", "proposer", "clip", "batch_size", "threads", "shard_size"),
        overrides=tuple(args.set),
        captions_per_image=args.captions_per_image,
        nouns=NounConfig(**pick("parser", "compounds", "lemmatise", "stop_nouns")),
        match=MatchConfig(**pick("top_k", "min_score", "min_probability", *ranking, "duplicates")),
    )
    how = pick("images", "captions", "output", "engine", "workers", "device")
    return Job(**how, config=config)


def main() -> int:
    args = parse_args()
    logging.basicConfig(level=logging.WARNING, format="self_label: %(message)s")
    try:
        if args.images and args.captions:
            self_label(read_job(args))
        if args.export:
            print("exported to", export_finished(args.output, args.export))
        summary = read_summary(args.output)
        print(tell(summary, args.output))
    except (ValueError, OSError, RuntimeError) as error:
        print("self_label: error:", *str(error).split(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("self_label: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 1 if summary["images"] and summary["skipped"] == summary["images"] else 0


if __name__ == "__main__":
    sys.exit(main())
