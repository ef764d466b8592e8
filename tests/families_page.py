"""Which family is checked against what: the first table of docs/families.md, made from the tests themselves.

Run: python tests/families_page.py > table.md
"""

from __future__ import annotations

from collections.abc import Iterator

from conftest import TINY_CONFIGS
from test_families import REMOTE_CODE
from test_gguf import ARCHITECTURES
from test_image_processors import ORACLES
from tiny_families import TINY

from costmodel.checkpoints.gguf_model import DECODERS
from costmodel.errors import WorkloadError
from costmodel.families import supported_model_types
from costmodel.families.sources import load_model, preset_names
from costmodel.specs.images import ImageSize
from costmodel.specs.model import ModelSpec

COLUMNS = ("`model_type`", "presets", "parameters", "FLOPs", "bytes of weights", "image rule", "video", "GGUF")

# Connectors of these are checked beside modules put together as published; Kimi-VL's decoder is that of DeepSeek-V3.
PARTLY = {"minicpmv": "connector", "molmo": "connector", "kimi_vl": "decoder"}


def _presets(family: str) -> list[ModelSpec]:
    return [model for model in map(load_model, preset_names()) if model.family == family]


def _rule(models: list[ModelSpec]) -> str:
    if not models:
        return "shared"
    rule = models[0].image_rule
    if rule is None:
        return "reads text"
    checked = {type(load_model(name).image_rule) for name in ORACLES}
    return "real processor, 200 sizes" if type(rule) in checked else "one size"


def _video(models: list[ModelSpec]) -> str:
    rule = models[0].image_rule if models else None
    if rule is None:
        return ""
    try:
        rule.video_layout(ImageSize(width=640, height=480), 16)
    except WorkloadError:
        return "refused"
    return "yes"


def _gguf(name: str) -> str:
    """Architecture of its files, and whether the library wrote one that was read."""
    if name in ARCHITECTURES:
        return f"{ARCHITECTURES[name]}, written and read"
    of_text = [architecture for architecture, kind in DECODERS.items() if kind == f"{name}_text"]
    return f"{of_text[0]}, its language model" if of_text else ""


def rows() -> Iterator[tuple[str, ...]]:
    """A row for every ``model_type``."""
    small = {tiny.config["model_type"] for tiny in TINY.values()} | set(TINY_CONFIGS)
    for name in supported_model_types():
        models = _presets(name)
        built = name in small
        yield (
            name,
            str(len(models)),
            "real module" if built or (models and name not in REMOTE_CODE) else "published total",
            "encode, prefill, decode" if built else PARTLY.get(name, "shared parts"),
            "saved state dict" if built else "",
            _rule(models),
            _video(models),
            _gguf(name),
        )


def table() -> str:
    """The table as Markdown."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    print(table(), end="")
