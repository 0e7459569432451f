"""The card of a data set as a web page: what card.md says, with the picture in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrobust.reporting import artefacts, webpage

SUBSET_NOTE = "SUBSET of the release: numbers do not compare with published ones."


def card_page(card: Mapping[str, Any], text: str, preview: bytes) -> str:
    """Returns the page.

    Args:
        card: content of ``card.json``.
        text: ``card.md``: Markdown whose first line is the title.
        preview: the PNG file that the text shows as ``preview.png``.
    """
    from markdown_it import MarkdownIt

    title, _, rest = text.partition("\n")
    # HTML in names of files or in what a user wrote on a data set is shown as text.
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(rest)
    picture = webpage.data_uri(preview, "image/png")
    body = body.replace('src="preview.png"', f'src="{picture}"')
    body = body.replace("<table>", '<div class="scroll"><table>').replace(
        "</table>", "</table></div>"
    )
    banner = artefacts.SYNTHETIC_NOTE if card["synthetic"] else ""
    if not card["complete"]:
        banner = " ".join(filter(None, [banner, SUBSET_NOTE]))
    return webpage.page(title.lstrip("# "), body, banner=banner)
