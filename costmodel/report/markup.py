"""Build HTML in which every text is escaped unless it was built here: names come from files of strangers."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from costmodel.words import emphasised

__all__ = ["Html", "bullets", "element", "facts", "folded", "join", "marked", "table"]


class Html(str):
    """Markup made by this module; every other text is escaped when it is put into markup."""

    __slots__ = ()


def join(parts: Iterable[str]) -> Html:
    """Parts one after another, those that are not markup escaped."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


def element(name: str, *children: str, **attributes: str) -> Html:
    """Build an element; attributes are as Python allows: ``class_``, ``aria_label``."""
    pairs = (f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{''.join(pairs)}>{join(children)}</{name}>")


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """Table whose first column names the row; it scrolls by itself where the page is narrow."""
    kinds = ["number" if _is_numeric([row[i] for row in rows]) else "text" for i in range(len(header))]
    head = [element("th", text, scope="col", class_=kind) for text, kind in zip(header, kinds, strict=True)]
    body = [
        element(
            "tr",
            element("th", row[0], scope="row", class_="text"),
            *(element("td", cell, class_=kind) for cell, kind in zip(row[1:], kinds[1:], strict=True)),
        )
        for row in rows
    ]
    content = element("table", element("thead", element("tr", *head)), element("tbody", *body))
    scroll = element("div", content, class_="scroll", role="region", tabindex="0", aria_label=caption)
    return element("div", element("p", caption, class_="caption"), scroll)


def facts(title: str, rows: Iterable[tuple[str, str]]) -> Html:
    """Names and values."""
    pairs = (element("div", element("dt", name), element("dd", value)) for name, value in rows)
    return join([element("h3", title), element("dl", *pairs)])


def bullets(items: Iterable[str]) -> Html:
    """Unordered list."""
    return element("ul", *(element("li", item) for item in items))


def marked(text: str) -> Html:
    """Sentence of :mod:`costmodel.words`: what matters in bold."""
    return join(element("strong", part) if strong else part for part, strong in emphasised(text))


def folded(summary: str, *children: str) -> Html:
    """Content that opens on demand."""
    return element("details", element("summary", summary), *children)


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether a column lines up better on the right."""
    return all(cell.lstrip("<>±+- ")[:1].isdigit() for cell in cells if cell)
