"""What the site does beyond Markdown: formulas as MathML, decisions by themselves, pages that are kept elsewhere.

MathML needs neither a script nor a font from a network; every current browser shows it.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

__all__ = ["on_config", "on_page_content", "on_page_markdown", "on_post_page"]

_ROOT = Path(__file__).parent.parent
_WIDTH = 80
# Characters of TeX beyond which a formula does not fit a phone.
_LONG = 60
_SEARCH = 'class="md-search" data-md-component="search"'
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
# Pages that repeat a file of the repository's root.
_INCLUDED = {"contributing.md": "CONTRIBUTING.md", "changes.md": "CHANGELOG.md"}


def on_config(config: Any) -> Any:
    """Put every decision into the navigation, in order."""
    pages = [f"decisions/{path.name}" for path in sorted((_ROOT / "docs" / "decisions").glob("*.md"))]
    config.nav = [{"Decisions": pages} if "Decisions" in entry else entry for entry in config.nav]
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill pages that are made from something else."""
    name = page.file.src_uri
    if name in _INCLUDED:
        text = (_ROOT / _INCLUDED[name]).read_text(encoding="utf-8").replace("](docs/", "](")
        return text.replace("](CHANGELOG.md)", "](changes.md)")
    if name == "commands.md":
        return f"{markdown}\n{_commands()}"
    return markdown


def on_page_content(content: str, page: Any, config: Any, files: Any) -> str:
    """Formulas become MathML, tables and formulas scroll by themselves where the page is narrow."""
    content = _FORMULA.sub(lambda match: _mathml(html.unescape(match.group(2))), content)
    return content.replace("<table>", '<div class="wide" tabindex="0"><table>').replace("</table>", "</table></div>")


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Name the theme's search box for those who hear the page."""
    return output.replace(_SEARCH, f'{_SEARCH} aria-label="Search"')


def _mathml(formula: str) -> str:
    """A formula; a long one can be reached with the keyboard, since it scrolls."""
    reach = ' tabindex="0"' if len(formula) > _LONG else ""
    return f'<span class="maths"{reach}>{convert(formula.strip())}</span>'


def _commands() -> str:
    """The help of every command, as a terminal of 80 columns shows it."""
    import typer

    from costmodel import cli
    from costmodel.helptext import commands_of, with_examples

    cli._load_plugins()
    parts = []
    for words, command in commands_of(with_examples(typer.main.get_command(cli.app))):
        name = " ".join(("costmodel", *words))
        context = command.make_context(
            name, ["--help"], resilient_parsing=True, terminal_width=80, max_content_width=80
        )
        parts.append(f"## `{name}`\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)
