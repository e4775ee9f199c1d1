"""The contact sheet as a page that needs nothing but itself."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from labeling.contact_cards import Card
from proposal.whole_file import write_whole

QUALITY = 82  # of JPEG

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.35 system-ui, sans-serif; margin: 16px; background: #f2f2f4; color: #202024 }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(430px, 1fr)); gap: 12px }}
article {{ background: #fff; border-radius: 8px; padding: 10px; cursor: pointer;
  border: 3px solid #fff }}
article.wrong {{ border-color: #d22; opacity: .6 }}
.pictures {{ display: flex; gap: 8px; height: 200px; align-items: center }}
.pictures img {{ max-height: 200px; max-width: 50% }}
h2 {{ font-size: 22px; margin: 6px 0 0 }}
h2 small {{ font-size: 14px; font-weight: normal; color: #70707a; white-space: pre }}
p {{ margin: 2px 0; overflow-wrap: anywhere }} .file {{ color: #70707a; font-size: 12px }}
</style>
<h1>{title}</h1>
<p>Outlined: the mask. Beside it: the crop that bears the noun. Then cosine, probability against
the photo's other nouns, share of the photo. Click what is wrong: <b id="wrong">none marked</b></p>
<main>
{cards}
</main>
<script>
document.querySelectorAll("article").forEach(card => card.onclick = () => {{
  card.classList.toggle("wrong");
  const wrong = document.querySelectorAll(".wrong").length, all = {count};
  document.getElementById("wrong").textContent =
    `${{wrong}} of ${{all}} wrong (${{Math.round(100 * wrong / all)}}%)`;
}});
</script>
</html>
"""
_CARD = """<article><div class="pictures">{photo}{crop}</div>
<h2>{noun} <small>{numbers}</small></h2><p>{caption}</p><p class="file">{file}</p></article>"""


def write_html(path: Path, cards: Sequence[Card], title: str) -> Path:
    """Write the page, whole, and return its path."""
    shown = "\n".join(_card(card) for card in cards)
    page = _PAGE.format(title=html.escape(title), cards=shown, count=len(cards))
    write_whole(path, page.encode("utf-8", "backslashreplace"))
    return path


def _card(card: Card) -> str:
    return _CARD.format(
        photo=_picture(card.photo),
        crop=_picture(card.crop),
        noun=html.escape(card.noun),
        numbers=html.escape(card.numbers),
        caption=_mark(card.row["caption"], card.noun),
        file=html.escape(card.row["image"]),
    )


def _mark(caption: str, noun: str) -> str:
    """The caption as HTML, the noun in bold where it stands there as it is, or with an ending."""
    parts = re.split(rf"(?i)\b({re.escape(noun)}\w{{0,3}})\b", caption, maxsplit=1)
    escaped = [html.escape(part) for part in parts]
    return "".join(f"<b>{part}</b>" if index == 1 else part for index, part in enumerate(escaped))


def _picture(picture: Image.Image) -> str:
    content = io.BytesIO()
    picture.convert("RGB").save(content, "JPEG", quality=QUALITY)
    encoded = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="" src="data:image/jpeg;base64,{encoded}">'
