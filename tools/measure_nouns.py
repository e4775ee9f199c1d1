"""Print which nouns a set of captions has, and how many captions a second they were found in.

Example: python tools/measure_nouns.py --captions captions.json
reads COCO captions JSON, TSV, JSONL or a JSON list of texts; how nouns are found is told in
docs/labeling.md.
"""

from __future__ import annotations

import argparse
import sys

try:
    from labeling.noun_counts import count_nouns, read_texts, table
    from labeling.nouns import PARSERS, NounConfig, NounParser
except ModuleNotFoundError as missing:
    needed = f"measure_nouns: error: {missing.name} is missing: run `make setup`, "
    print(needed + "use .venv/bin/python", file=sys.stderr)
    raise SystemExit(2) from None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "measure_nouns", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--captions", required=True, metavar="FILE", help=".json, .tsv or .jsonl")
    add("--parser", default="spacy", choices=PARSERS, help="what finds nouns [spacy]")
    add(
        "--stop-nouns", default="default", metavar="F", help="a file, a noun a line ['' stops none]"
    )
    add("--no-compounds", action="store_true", help='"traffic light" becomes traffic and light')
    add("--no-lemmas", action="store_true", help="nouns stay as written, plurals included")
    add("--processes", type=int, default=1, metavar="N", help="that parse; 0: one a core [1]")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    try:
        config = NounConfig(
            parser=args.parser,
            compounds=not args.no_compounds,
            lemmatise=not args.no_lemmas,
            stop_nouns=args.stop_nouns,
            processes=args.processes,
        )
        numbers = count_nouns(NounParser(config), read_texts(args.captions))
    except (ValueError, OSError) as error:
        print("measure_nouns: error:", *str(error).split(), file=sys.stderr)
        return 2
    print(table(numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
