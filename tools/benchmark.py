"""How long each stage takes: names first and again, proposal, crops, CLIP, assemble, memory.

Example: python tools/benchmark.py --model nano --names 150

Prints a Markdown table on scikit-image's astronaut (512 x 512). Each model is built in processes of
its own; ``full-size`` is R-101c + ViT-B/16 with random weights, ``full-size-compat`` the same with
every step as published. Then: how fast a model that has weights labels captioned photos
(tools/self_label.py), with one worker for each GPU or core.
"""

from __future__ import annotations

import argparse
import sys

try:
    import skimage.data

    from labeling.throughput import measure_throughput
    from maskclip.timing import (
        FULL_SIZE,
        Job,
        describe_machine,
        format_table,
        measure,
        sample_names,
    )
except ModuleNotFoundError as missing:
    needed = f"benchmark: error: {missing.name} is missing: run `make setup`, use .venv/bin/python"
    print(needed, file=sys.stderr)
    raise SystemExit(2) from None


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        action="append",
        dest="models",
        metavar="MODEL",
        help=f"packaged name, folder, {' or '.join(FULL_SIZE)}; may be repeated (default: all)",
    )
    parser.add_argument("--names", type=int, default=150, help="how many (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="the fastest photo of so many counts"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.names < 1 or args.repeats < 1:
        parser.error("--names and --repeats must be at least 1")
    return args


def main() -> int:
    args = parse_args()
    photo, measured, labelled = skimage.data.astronaut(), {}, {}
    print(describe_machine())
    try:
        names = sample_names(args.names)
        for model in args.models or ["nano", *FULL_SIZE]:
            print(f"measuring {model} …", file=sys.stderr)
            measured[model] = measure(Job(model, photo, names, args.repeats, args.device))
            if model not in FULL_SIZE:
                labelled[model] = measure_throughput(model, device=args.device)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"benchmark: error: {error}", file=sys.stderr)
        return 2
    print(f"{len(names)} names; photo {photo.shape[0]} x {photo.shape[1]}")
    print(format_table(measured))
    for model, throughput in labelled.items():
        print(throughput.sentence(model))
    return 0


if __name__ == "__main__":
    sys.exit(main())
