"""The sentences that a name is put into before the text tower reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import open_clip

FOLDER = Path(__file__).parent / "data" / "templates"
SLOT = "{}"


def known_templates() -> tuple[str, ...]:
    """The packaged sets of templates."""
    return ("imagenet80", *sorted(path.stem for path in FOLDER.glob("*.txt")))


def load_templates(spec: str) -> tuple[str, ...]:
    """A packaged set's name, one template written out, or a file of them -> T templates.

    Raises:
        FileNotFoundError: neither a packaged set nor a file.
        ValueError: a template without exactly one ``{}``, or none at all.
    """
    if spec == "imagenet80":  # OpenAI's 80, which open_clip ships as functions of the name
        return tuple(template(SLOT) for template in open_clip.OPENAI_IMAGENET_TEMPLATES)
    if SLOT in spec:
        return check_templates([spec], "the template")
    path = FOLDER / f"{spec}.txt" if spec in known_templates() else Path(spec)
    if not path.is_file():
        raise FileNotFoundError(
            f"expected templates {', '.join(known_templates())}, a text file with one template a"
            f' line, or a template such as "a photo of a {SLOT}.", got {spec!r}'
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error
    return check_templates([line.strip() for line in lines if line.strip()], str(path))


def check_templates(templates: Sequence[str], origin: str) -> tuple[str, ...]:
    """The same templates, each sure to have one place for the name."""
    if not templates:
        raise ValueError(f"{origin} has no templates: write one a line, {SLOT} where the name goes")
    for template in templates:
        if template.count(SLOT) != 1:
            raise ValueError(
                f"each template of {origin} must have one {SLOT} where the name goes,"
                f" got {template!r}"
            )
    return tuple(templates)


def fill(template: str, name: str) -> str:
    """The template with the name in its place; braces in the name mean nothing."""
    return template.replace(SLOT, name)
