"""From a model and a workload to stages of components of operators: what runs, and how often.

A stage (encode, prefill, decode) is a list of components, a component is what a slice measures: one vision block, one
decoder layer, the head, or the shell around them. Token counts may be numpy arrays.
"""

from __future__ import annotations

from costmodel.program.decoder import decode_step, prefill, prefill_chunks
from costmodel.program.images import cross_tokens, host_work, image_layouts, preprocess
from costmodel.program.mixed import mixed_step
from costmodel.program.stages import QUANTIZATIONS, Component, Options, Stage
from costmodel.program.vision import encode

__all__ = [
    "QUANTIZATIONS",
    "Component",
    "Options",
    "Stage",
    "cross_tokens",
    "decode_step",
    "encode",
    "host_work",
    "image_layouts",
    "mixed_step",
    "prefill",
    "prefill_chunks",
    "preprocess",
]
