"""Traces from the logs of evaluation toolkits, so that models that were evaluated once need no new run."""

from __future__ import annotations

from costmodel.policy.importers.common import LogOptions, import_logs, tokenizer_counter
from costmodel.policy.importers.lmms_eval import read_lmms_eval
from costmodel.policy.importers.vlmevalkit import read_vlmevalkit

__all__ = ["READERS", "LogOptions", "import_logs", "read_lmms_eval", "read_vlmevalkit", "tokenizer_counter"]

READERS = {"lmms-eval": read_lmms_eval, "vlmevalkit": read_vlmevalkit}
"""Readers by the name of the toolkit."""
