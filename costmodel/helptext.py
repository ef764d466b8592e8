"""The example of every command: one line in a docstring, shown so that it can be copied into a shell."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

__all__ = ["commands_of", "example_of", "with_examples"]

_MARK = "Example: "
# What is left of 80 columns after the two indentations and the backslash.
_WIDTH = 72
# Click leaves the lines of a paragraph alone that begins with this character.
_VERBATIM = "\b"


def commands_of(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below a group with the words that call it, groups left out that do nothing by themselves."""
    for name, command in group.commands.items():
        words = (*path, name)
        below = hasattr(command, "commands")
        if not below or command.invoke_without_command:
            yield words, command
        if below:
            yield from commands_of(command, words)


def example_of(text: str) -> tuple[str, str]:
    """Split a docstring into its words and its example; the example is one line, empty where there is none."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    found = [" ".join(each.split()).removeprefix(_MARK) for each in paragraphs if each.startswith(_MARK)]
    return "\n\n".join(each for each in paragraphs if not each.startswith(_MARK)), "".join(found[:1])


def with_examples(command: Any) -> Any:
    """Rewrite the help below a command: examples keep their lines, which are broken between options only."""
    for _, each in commands_of(command):
        text, example = example_of(each.help or "")
        if example:
            lines = textwrap.indent(_broken(example), "  ")
            each.help = f"{text}\n\nExample:\n\n{_VERBATIM}\n{lines}"
    return command


def _broken(example: str) -> str:
    """Break before an option, with a backslash, where a line would not fit."""
    words, *options = example.split(" --")
    lines = [words]
    for option in options:
        if len(lines[-1]) + len(option) + 3 > _WIDTH:
            lines.append(f"  --{option}")
        else:
            lines[-1] += f" --{option}"
    return " \\\n".join(lines)
