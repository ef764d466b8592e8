"""What servers understand beyond the common request: each refuses or ignores the words of the others."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Literal, get_args

from calibrate.engines.protocol import Request

__all__ = ["DIALECTS", "Dialect", "dialect_of", "extra_fields"]

Dialect = Literal["auto", "openai", "vllm", "sglang", "llama.cpp", "transformers"]
DIALECTS: tuple[str, ...] = get_args(Dialect)
"""Names of all of them."""

# ``owned_by`` in the list of models.
_OWNERS: dict[str, Dialect] = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp"}


def dialect_of(models: Mapping[str, Any]) -> Dialect:
    """Dialect of a server by its list of models; the plain one where it can't be told."""
    entries = models.get("data")
    first = entries[0] if isinstance(entries, list) and entries and isinstance(entries[0], dict) else {}
    return _OWNERS.get(str(first.get("owned_by")), "openai")


def extra_fields(dialect: Dialect, request: Request) -> dict[str, Any]:
    """Fields for what the request asks beyond the common ones."""
    fields: dict[str, Any] = {}
    if dialect in ("vllm", "sglang", "llama.cpp") and request.ignore_eos:
        fields["ignore_eos"] = True
    if request.seed is not None:
        fields["seed"] = request.seed
    if request.stop:
        fields["stop"] = list(request.stop)
    if request.logprobs and dialect != "transformers":
        fields["logprobs"] = True
    if not request.reuse_prefix:
        fields.update(_without_prefix(dialect))
    if dialect != "transformers":
        fields["stream_options"] = {"include_usage": True}
    return fields


def _without_prefix(dialect: Dialect) -> dict[str, Any]:
    """Keep the server from using what it remembers; others are told apart by the beginning of the prompt."""
    if dialect == "llama.cpp":
        return {"cache_prompt": False}
    if dialect == "vllm":
        return {"cache_salt": secrets.token_hex(8)}
    return {}
