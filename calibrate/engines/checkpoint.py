"""A trained checkpoint of transformers in this process, asked like a server: stock ``generate()``, one at a time.

Times begin with the decoded picture and end with the last token, as :mod:`calibrate.engines.local_transformers` has it;
turning tokens to text and reading log-probabilities come after, as they do in a server's own thread.
"""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.utils import logging

from calibrate.engines.protocol import Answer, Request
from calibrate.measure.device import TORCH_DTYPES, Device, Mark, torch_threads
from costmodel.errors import DeviceError, EndpointRequestError, InputError

__all__ = ["Checkpoint"]


class _Marks(BaseStreamer):  # type: ignore[misc]
    """A mark for every token; the first call is the prompt."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.marks: list[Mark] = []

    def put(self, value: torch.Tensor) -> None:
        self.marks.append(self._device.mark())

    def end(self) -> None:
        pass


class Checkpoint:
    """An engine of one model with its trained weights.

    Parameters
    ----------
    folder
        A saved model with tokenizer and image processor. Nothing is downloaded, and no code of the checkpoint is run.
    executor
        A pool of one thread; models that share a device share it, so that they answer in turn.

    Raises
    ------
    InputError
        If the folder can't be loaded.
    """

    def __init__(self, folder: Path, device: Device, *, dtype: str, executor: Executor) -> None:
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder}: no config.json in it; expected the folder of a saved model")
        if dtype not in TORCH_DTYPES:
            raise InputError(f"dtype {dtype!r}: expected one of {', '.join(TORCH_DTYPES)}")
        self._folder, self._device, self._executor = folder, device, executor
        self._last: tuple[Answer, list[int]] | None = None
        logging.disable_progress_bar()
        try:
            self._load(dtype)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise InputError(f"{folder}: can't be loaded: {str(error).strip().splitlines()[0][:160]}") from None

    def _load(self, dtype: str) -> None:
        config = AutoConfig.from_pretrained(self._folder, local_files_only=True, trust_remote_code=False)
        self._image_token: int | None = getattr(config, "image_token_id", None)
        kind = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
        self.model: Any = kind.from_pretrained(
            self._folder, dtype=TORCH_DTYPES[dtype], attn_implementation="sdpa", local_files_only=True
        ).to(self._device.torch_device)
        self.model.eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
        self._processor: Any
        self._images: Any
        self._processor, self._images = _processors(self._folder) if self._image_token is not None else (None, None)

    @property
    def name(self) -> str:
        """Folder of the checkpoint."""
        return f"local:{self._folder}"

    async def close(self) -> None:
        """Nothing to close: memory goes with the object."""

    async def ask(self, request: Request) -> Answer:
        """Answer one request; waits for its turn on the device.

        Raises
        ------
        EndpointRequestError
            If the request does not fit the model: images for one that reads none.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self.answer, request)

    def answer(self, request: Request) -> Answer:
        """Answer one request in this thread."""
        device = self._device
        pictures = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in request.images]
        marks = _Marks(device)
        with torch_threads(device):
            device.synchronize()
            start = device.mark()
            inputs = self.inputs(request.prompt, pictures)
            if request.seed is not None:
                torch.manual_seed(request.seed)
            made = self.model.generate(
                **inputs,
                **_sampling(request),
                stopping_criteria=self._stopping(request, inputs["input_ids"].shape[1]),
                min_new_tokens=request.max_output_tokens if request.ignore_eos else None,
                max_new_tokens=request.max_output_tokens,
                use_cache=True,
                streamer=marks,
                return_dict_in_generate=True,
                output_logits=request.logprobs,
            )
            device.synchronize()
            new = made.sequences[0, inputs["input_ids"].shape[1] :].tolist()
            logprobs = _logprobs(made.logits, new) if request.logprobs else None
        token_s = tuple(device.elapsed_s(start, mark) for mark in marks.marks[1:])
        return self._answer(request, new, token_s, logprobs, prompt_tokens=inputs["input_ids"].shape[1])

    def _answer(
        self,
        request: Request,
        new: list[int],
        token_s: tuple[float, ...],
        logprobs: list[float] | None,
        *,
        prompt_tokens: int,
    ) -> Answer:
        ended = len(new) < request.max_output_tokens or (bool(new) and new[-1] in self._ends())
        pieces = self.pieces(new)
        text = "".join(pieces)
        # A server leaves the stop text out.
        end = min((text.find(stop) for stop in request.stop if stop in text), default=len(text))
        answer = Answer(
            text=text[:end].strip(),
            finish_reason="stop" if ended else "length",
            piece_s=token_s,
            total_s=token_s[-1],
            prompt_tokens=prompt_tokens,
            output_tokens=len(new),
            token_logprobs=tuple(zip(pieces, logprobs, strict=True)) if logprobs is not None else (),
        )
        self._last = answer, new
        return answer

    def _stopping(self, request: Request, prompt_tokens: int) -> StoppingCriteriaList | None:
        """Ends generation at a stop text; looked for in what is written, whatever the tokens are."""
        if not request.stop:
            return None

        def stops(sequences: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            text = self.tokenizer.decode(sequences[0, prompt_tokens:], skip_special_tokens=True)
            return torch.tensor([any(stop in text for stop in request.stop)], device=sequences.device)

        return StoppingCriteriaList([stops])

    def output_tokens(self, answer: Answer) -> torch.Tensor:
        """Token numbers of the answer given last; of an earlier one, its text encoded again."""
        if self._last is not None and self._last[0] is answer:
            return torch.tensor(self._last[1])
        return torch.tensor(self.tokenizer(answer.text, add_special_tokens=False)["input_ids"])

    def pieces(self, tokens: list[int]) -> list[str]:
        """Text of each token, blanks included; joined, they are the text."""
        found, before = [], ""
        for end in range(1, len(tokens) + 1):
            text = self.tokenizer.decode(tokens[:end], skip_special_tokens=True)
            found.append(text[len(before) :])
            before = text
        return found

    def inputs(self, prompt: str, pictures: list[Image.Image]) -> dict[str, torch.Tensor]:
        """What the model's processor does: template, image processor, placeholders, tokenizer, copy to the device."""
        if pictures and self._image_token is None:
            raise EndpointRequestError(f"{self.name}: the model reads no images")
        text = self._templated(prompt, len(pictures))
        if pictures and self._processor is not None:
            made = self._processor(text=text, images=pictures, return_tensors="pt")
            return {name: tensor.to(self._device.torch_device) for name, tensor in made.items()}
        tensors: dict[str, torch.Tensor] = {}
        if pictures and self._images is not None:
            features = self._images(images=pictures, return_tensors="pt")
            tensors |= {name: features[name] for name in ("pixel_values", "image_grid_thw")}
            text = self._with_placeholders(text, features["image_grid_thw"].prod(dim=1).tolist())
        encoded = self.tokenizer(text, return_tensors="pt", add_special_tokens=not self.tokenizer.chat_template)
        tensors["input_ids"], tensors["attention_mask"] = encoded["input_ids"], encoded["attention_mask"]
        if self._image_token is not None:
            tensors["mm_token_type_ids"] = (tensors["input_ids"] == self._image_token).int()
        return {name: tensor.to(self._device.torch_device) for name, tensor in tensors.items()}

    def _templated(self, prompt: str, images: int) -> str:
        if not self.tokenizer.chat_template:
            return prompt
        content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": prompt}]
        message = {"role": "user", "content": content if images else prompt}
        return str(self.tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True))

    def _with_placeholders(self, text: str, patches: list[int]) -> str:
        """One placeholder of the template becomes one for each visual token."""
        placeholder = self.tokenizer.convert_ids_to_tokens(self._image_token)
        merge = self._images.merge_size**2 if self._images is not None else 1
        parts = text.split(placeholder)
        if len(parts) != len(patches) + 1:
            raise DeviceError(f"{self.name}: the chat template has {len(parts) - 1} places for {len(patches)} image(s)")
        # A word tokenizer tells placeholders apart by the blanks between them.
        joint = " " if text.startswith(" ", len(parts[0]) + len(placeholder)) else ""
        filled = [joint.join([placeholder] * (count // merge)) for count in patches]
        return "".join(part + fill for part, fill in zip(parts, [*filled, ""], strict=True))

    def _ends(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        return set(ends) if isinstance(ends, list) else {ends}


def _processors(folder: Path) -> tuple[Any, Any]:
    """The checkpoint's own processor; without torchvision, which the Qwen-VL ones want for videos, that of images."""
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (ImportError, OSError, ValueError):
        processor = None
    if hasattr(processor, "image_processor") and hasattr(processor, "tokenizer"):
        return processor, None
    return None, Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)


def _sampling(request: Request) -> dict[str, Any]:
    if request.temperature > 0:
        return {"do_sample": True, "temperature": request.temperature}
    return {"do_sample": False}


def _logprobs(logits: tuple[torch.Tensor, ...], tokens: list[int]) -> list[float]:
    """Log-probability of every token under the model itself, before any sampling temperature."""
    rows = torch.stack([step[0] for step in logits]).float().log_softmax(dim=-1)
    return rows[torch.arange(len(tokens)), torch.tensor(tokens)].clamp(max=0.0).tolist()
