"""Real runs of a transformers VLM with random weights: stock ``generate()``, timed stage by stage.

The stages are seen from outside, without changing the model: hooks around the vision tower and the head, and the
streamer that ``generate()`` feeds with every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.generation.streamers import BaseStreamer
from transformers.initialization import no_init_weights
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from calibrate.measure.device import TORCH_DTYPES, Device, Mark
from calibrate.measure.hf_config import hf_config
from calibrate.measure.random_weights import fill_weights
from costmodel.errors import DeviceError
from costmodel.specs.images import ImageSize, SmartResize
from costmodel.specs.model import ModelSpec

__all__ = ["LocalModel", "RunTimes", "random_image"]

_WORDS = 1000


@dataclass(frozen=True, slots=True)
class RunTimes:
    """Measured times of one request, in seconds.

    Attributes
    ----------
    head_prefill_s, head_step_s
        Time inside the head in prefill and (mean) in a decode step; part of the stages, not beside them.
    token_s
        When each output token came, from the start of the request.
    """

    preprocess_s: float
    encode_s: float
    prefill_s: float
    decode_s: float
    ttft_s: float
    total_s: float
    head_prefill_s: float
    head_step_s: float
    token_s: tuple[float, ...]

    @property
    def output_tokens(self) -> int:
        """Tokens that came."""
        return len(self.token_s)


class _TokenMarks(BaseStreamer):  # type: ignore[misc]
    """A mark for every token that ``generate()`` hands out; the first call is the prompt."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.marks: list[Mark] = []

    def put(self, value: torch.Tensor) -> None:
        self.marks.append(self._device.mark())

    def end(self) -> None:
        pass


class _ModuleMarks:
    """Marks before and after every call of a module."""

    def __init__(self, module: torch.nn.Module, device: Device) -> None:
        self.pairs: list[tuple[Mark, Mark]] = []
        self._start: Mark | None = None
        self._device = device
        self._handles = (
            module.register_forward_pre_hook(self._before),
            module.register_forward_hook(self._after),
        )

    def _before(self, *_: object) -> None:
        self._start = self._device.mark()

    def _after(self, *_: object) -> None:
        if self._start is not None:
            self.pairs.append((self._start, self._device.mark()))

    def seconds(self) -> list[float]:
        return [self._device.elapsed_s(start, end) for start, end in self.pairs]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def random_image(size: ImageSize, *, seed: int) -> Image.Image:
    """A smooth random picture: noise costs more to resize than photographs do, a flat colour less."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(2, size.height // 8), max(2, size.width // 8), 3), dtype=np.uint8)
    return Image.fromarray(small).resize((size.width, size.height), Image.Resampling.BILINEAR)


class LocalModel:
    """A transformers VLM with random weights at a model's architecture.

    Parameters
    ----------
    spec
        Architecture.
    device
        Where it runs.
    dtype
        Number format of weights and activations.
    text_layers, vision_blocks, full_attention_blocks
        Keep only so many layers, see :func:`calibrate.measure.hf_config.hf_config`: with zero of both, what is left is
        the shell that slices measure.
    """

    def __init__(
        self,
        spec: ModelSpec,
        device: Device,
        *,
        dtype: str,
        text_layers: int | None = None,
        vision_blocks: int | None = None,
        full_attention_blocks: int | None = None,
    ) -> None:
        if not isinstance(spec.image_rule, SmartResize):
            raise DeviceError(f"{spec.name}: only models with a vision tower of the Qwen-VL families can be run so far")
        if dtype not in TORCH_DTYPES:
            raise DeviceError(f"dtype {dtype!r}: expected one of {', '.join(TORCH_DTYPES)}")
        self.spec, self.device, self.dtype = spec, device, dtype
        self.config = hf_config(
            spec,
            text_layers=text_layers,
            vision_blocks=vision_blocks,
            full_attention_blocks=full_attention_blocks,
        )
        with no_init_weights(), torch.device(device.torch_device):
            self.model: Any = AutoModelForImageTextToText.from_config(
                self.config, dtype=TORCH_DTYPES[dtype], attn_implementation="sdpa"
            ).eval()
        self.model.tie_weights()
        fill_weights(self.model)
        self.model.generation_config.eos_token_id = None
        rule = spec.image_rule
        self._image_processor = Qwen2VLImageProcessorPil(
            patch_size=rule.patch_size,
            merge_size=rule.merge_size,
            size={"shortest_edge": rule.min_pixels, "longest_edge": rule.max_pixels},
        )
        self._tokenizer = _tokenizer(self.config)

    def run(self, images: Sequence[Image.Image], *, prompt_tokens: int, output_tokens: int) -> RunTimes:
        """One request, greedy, with KV cache.

        Parameters
        ----------
        prompt_tokens
            Text tokens; visual tokens and the tokens around them come on top.
        """
        text = " ".join(f"w{i % _words(self.config)}" for i in range(prompt_tokens))
        streamer = _TokenMarks(self.device)
        tower = _ModuleMarks(self.model.model.visual, self.device)
        head = _ModuleMarks(self.model.lm_head, self.device)
        try:
            self.device.synchronize()
            start = self.device.mark()
            inputs = self._inputs(images, text)
            prepared = self.device.mark()
            self.model.generate(
                **inputs, max_new_tokens=output_tokens, do_sample=False, use_cache=True, streamer=streamer
            )
            self.device.synchronize()
        finally:
            tower.remove()
            head.remove()
        return self._times(start, prepared, streamer.marks[1:], tower.seconds(), head.seconds())

    def _inputs(self, images: Sequence[Image.Image], text: str) -> dict[str, torch.Tensor]:
        """What the model's processor does: image processor, placeholders, tokenizer, copy to the device."""
        tensors: dict[str, torch.Tensor] = {}
        parts: list[str] = []
        if images:
            features = self._image_processor(images=list(images), return_tensors="pt")
            tensors["pixel_values"], tensors["image_grid_thw"] = (
                features["pixel_values"],
                features["image_grid_thw"],
            )
            merge = self._image_processor.merge_size**2
            for grid in features["image_grid_thw"].tolist():
                count = grid[0] * grid[1] * grid[2] // merge
                parts.append(" ".join(["<vision_start>", *["<image>"] * count, "<vision_end>"]))
        encoded = self._tokenizer(" ".join([*parts, text]), return_tensors="pt")
        tensors["input_ids"], tensors["attention_mask"] = encoded["input_ids"], encoded["attention_mask"]
        tensors["mm_token_type_ids"] = (tensors["input_ids"] == self.config.image_token_id).int()
        return {name: tensor.to(self.device.torch_device) for name, tensor in tensors.items()}

    def _times(
        self, start: Mark, prepared: Mark, tokens: list[Mark], tower_s: list[float], head_s: list[float]
    ) -> RunTimes:
        elapsed = self.device.elapsed_s
        preprocess_s, encode_s = elapsed(start, prepared), sum(tower_s)
        token_s = tuple(elapsed(start, token) for token in tokens)
        ttft_s, total_s = token_s[0], token_s[-1]
        steps = head_s[1:]
        return RunTimes(
            preprocess_s=preprocess_s,
            encode_s=encode_s,
            prefill_s=ttft_s - preprocess_s - encode_s,
            decode_s=total_s - ttft_s,
            ttft_s=ttft_s,
            total_s=total_s,
            head_prefill_s=head_s[0],
            head_step_s=sum(steps) / len(steps) if steps else 0.0,
            token_s=token_s,
        )


def _words(config: Any) -> int:
    """Number of words: fewer where the model's vocabulary ends, with its special tokens, before that."""
    special = (config.image_token_id, config.vision_start_token_id, config.vision_end_token_id)
    return min(_WORDS, *(int(token) - 1 for token in special))


def _tokenizer(config: Any) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: one token a word, and the special tokens at the ids that the model expects."""
    words = _words(config)
    vocabulary = {f"w{i}": i for i in range(words)}
    vocabulary["<unk>"] = words
    vocabulary["<image>"] = config.image_token_id
    vocabulary["<vision_start>"] = config.vision_start_token_id
    vocabulary["<vision_end>"] = config.vision_end_token_id
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = ["<image>", "<vision_start>", "<vision_end>"]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
