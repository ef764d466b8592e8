"""How much an answer attended to each token that came before it: one more forward pass of the model that wrote it.

The pass uses plain matrix attention, for the fused kernels never hold the weights. What it costs is one prefill of
prompt and answer, which the predictions of a policy don't hold.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image

from calibrate.engines.checkpoint import Checkpoint
from calibrate.engines.protocol import Answer, Request
from calibrate.policies.replies import split_reasoning

__all__ = ["attention_to_tokens"]


def attention_to_tokens(checkpoint: Checkpoint, request: Request, answer: Answer) -> tuple[float, ...]:
    """Attention that the tokens of the final answer paid to each token of the whole output.

    Returns
    -------
    tuple of float
        For each token of ``answer.token_logprobs``: mean over layers, heads, and the positions that the final answer's
        tokens were predicted from.
    """
    pieces = [piece for piece, _ in answer.token_logprobs]
    _, (answer_start, _) = split_reasoning("".join(pieces), "reason")
    ends = torch.tensor([len(piece) for piece in pieces]).cumsum(0).tolist()
    asking = [i for i, end in enumerate(ends) if end > answer_start and pieces[i].strip()]
    if not asking:
        return tuple(0.0 for _ in pieces)
    pictures = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in request.images]
    inputs = checkpoint.inputs(request.prompt, pictures)
    before = inputs["input_ids"].shape[1]
    inputs = _with_output(inputs, checkpoint.output_tokens(answer))
    with torch.inference_mode(), _matrix_attention(checkpoint.model):
        layers = checkpoint.model(**inputs, output_attentions=True, use_cache=False).attentions
    # Rows are positions that look back; the token at i is predicted from i - 1.
    rows = torch.tensor([before + i - 1 for i in asking])
    weights = torch.stack([layer[0, :, rows, before:].mean(dim=(0, 1)) for layer in layers]).mean(dim=0)
    return tuple(float(weight) for weight in weights[: len(pieces)])


def _with_output(inputs: dict[str, torch.Tensor], output: torch.Tensor) -> dict[str, torch.Tensor]:
    """The prompt with what was answered behind it."""
    longer = dict(inputs)
    output = output.to(inputs["input_ids"].device)[None]
    longer["input_ids"] = torch.cat([inputs["input_ids"], output], dim=1)
    longer["attention_mask"] = torch.ones_like(longer["input_ids"])
    if "mm_token_type_ids" in inputs:
        kinds = inputs["mm_token_type_ids"]
        longer["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(output, dtype=kinds.dtype)], dim=1)
    return longer


@contextmanager
def _matrix_attention(model: Any) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
