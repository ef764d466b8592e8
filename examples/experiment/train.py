"""Train the pair; about a quarter of an hour on two quiet cores.

Usage: python examples/experiment/train.py [small] [large] [--out examples/experiment/weights] [--seed 0]

A row is one picture and twelve questions that do not see each other (a mask keeps them apart): short answers, reasoned
ones, and short answers after a hint. Hints are right, or wrong in the ways a small model's are. The loss is that of the
output tokens, plus half that of reading each cell from its visual token, which is dropped afterwards.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pair import SIZES, TOKEN, build, image_processor, save
from task import CELLS, COLOURS, DIRECTIONS, KINDS, MARKS, MAX_STEPS, Pictures, draw, picture, question, walk
from task import reasoning as reason_words
from torch import nn

HERE = Path(__file__).parent
PICTURES, NOISE = 16, (0.10, 0.40)
VISUAL = 16
# Of a row: how many questions of each kind, and their length with the longest chain.
SHORT, REASON, HINTED = 8, 2, 2
LENGTH = {"short": 6, "reason": 4 + 2 * MAX_STEPS + 6, "hint": 1 + 2 * MAX_STEPS + 2 + 6}
WEIGHT = {"short": 1.5, "reason": 1.0, "hint": 1.5}
STEP_SHARES = np.array([0.18, 0.20, 0.20, 0.20, 0.12, 0.10])
SCHEDULE = {
    "small": {"steps": 4500, "learning_rate": 2e-3, "threads": 1},
    "large": {"steps": 4500, "learning_rate": 1.5e-3, "threads": 2},
}
WARM_UP, IGNORED = 100, -100


@dataclass(frozen=True, slots=True)
class Batch:
    """Questions about several pictures, as tensors.

    Attributes
    ----------
    tokens, labels, weights
        (pictures, tokens after the picture); labels are those of the next token.
    cells
        Colour, arrow and mark of every cell.
    """

    pixels: torch.Tensor
    tokens: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    cells: tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def kinds_of_a_row() -> list[str]:
    """Kind of each question."""
    return ["short"] * SHORT + ["reason"] * REASON + ["hint"] * HINTED


def words_of(rng: np.random.Generator, pictures: Pictures, index: int, mode: str) -> tuple[str, str]:
    """Prompt and output of one question."""
    kind = KINDS[rng.integers(2)]
    steps, start = int(rng.choice(MAX_STEPS, p=STEP_SHARES)) + 1, int(rng.integers(16))
    cells = walk(pictures.arrows[index], start, steps)
    answer = pictures.answer(index, kind, cells[-1])
    asked = question(kind, steps, start)
    if mode == "reason":
        thoughts = reason_words(pictures.arrows[index], cells, answer)
        return f"reason {asked}", f"<think> {thoughts} </think> {answer} <end>"
    if mode == "hint":
        return f"hint {hint(rng, pictures, index, kind, cells)} short {asked}", f"{answer} <end>"
    return f"short {asked}", f"{answer} <end>"


def hint(rng: np.random.Generator, pictures: Pictures, index: int, kind: Any, cells: list[int]) -> str:
    """A reasoning as a small model hands it over: often right, sometimes with a wrong turn, or misread at the end.

    Marks are misread more often than colours; a third of the hints is handed over in part.
    """
    arrows = pictures.arrows[index].copy()
    if rng.random() < 0.12:
        wrong = cells[int(rng.integers(len(cells) - 1))]
        ways = [
            d
            for d, (down, right) in enumerate(((0, 1), (1, 0), (0, -1), (-1, 0)))
            if d != arrows[wrong] and 0 <= wrong // 4 + down < 4 and 0 <= wrong % 4 + right < 4
        ]
        arrows[wrong] = int(rng.choice(ways))
        cells = walk(arrows, cells[0], len(cells) - 1)
    found = pictures.answer(index, kind, cells[-1])
    if rng.random() < (0.5 if kind == "mark" else 0.1):
        found = str(rng.choice(MARKS if kind == "mark" else COLOURS))
    words = reason_words(arrows, cells, found).split()
    if rng.random() < 1 / 3:
        keep = max(1, round(rng.uniform(0.2, 1.0) * len(words)))
        shape = rng.integers(3)
        if shape == 0:
            words = words[-keep:]
        elif shape == 1:
            tail = math.ceil(keep / 2)
            words = [*words[: keep - tail], *words[len(words) - tail :]]
        else:
            words = [words[i] for i in sorted(rng.choice(len(words), keep, replace=False))]
    return " ".join(words)


def batch(rng: np.random.Generator, name: str) -> Batch:
    """Draw a batch."""
    pictures = draw(rng, PICTURES, noise=NOISE)
    length = sum(LENGTH[mode] for mode in kinds_of_a_row())
    tokens = np.full((PICTURES, length), TOKEN["<pad>"])
    labels = np.full((PICTURES, length), IGNORED)
    weights = np.zeros((PICTURES, length), dtype=np.float32)
    for index in range(PICTURES):
        at = 0
        for mode in kinds_of_a_row():
            prompt, output = ([TOKEN[word] for word in words.split()] for words in words_of(rng, pictures, index, mode))
            end = len(prompt) + len(output)
            tokens[index, at : at + end] = prompt + output
            labels[index, at + len(prompt) - 1 : at + end - 1] = output
            weights[index, at + len(prompt) - 1 : at + end - 1] = WEIGHT[mode]
            at += LENGTH[mode]
    return Batch(
        pixels=patches(torch.from_numpy(pictures.pixels), name),
        tokens=torch.from_numpy(tokens),
        labels=torch.from_numpy(labels),
        weights=torch.from_numpy(weights),
        cells=tuple(torch.from_numpy(x) for x in (pictures.colours, pictures.arrows, pictures.marks)),  # type: ignore[arg-type]
    )


def patches(pixels: torch.Tensor, name: str) -> torch.Tensor:
    """What the image processor makes of pictures, all at once: (pictures x patches, values of a patch)."""
    side, patch = SIZES[name]["side"], SIZES[name]["patch"]
    images = pixels.permute(0, 3, 1, 2)
    if side != images.shape[-1]:
        # Pillow's bicubic filter, in its integer arithmetic.
        images = nn.functional.interpolate(images, size=(side, side), mode="bicubic", antialias=True)
    images = (images.float() / 255 - 0.5) / 0.5
    grid = side // patch
    blocks = images.reshape(len(images), 3, grid // 2, 2, patch, grid // 2, 2, patch)
    blocks = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7)[:, :, :, :, :, :, None]
    return blocks.expand(*blocks.shape[:6], 2, patch, patch).reshape(len(images) * grid * grid, -1)


def check_patches(name: str) -> None:
    """Compare :func:`patches` with the image processor, which will be used from then on."""
    pictures = draw(np.random.default_rng(0), 2, noise=0.2)
    expected = image_processor(name)(images=[picture(pictures, i) for i in range(2)], return_tensors="pt")
    difference = (patches(torch.from_numpy(pictures.pixels), name) - expected["pixel_values"]).abs().max()
    # One step of a byte, by rounding.
    if difference > 2.1 / 255:
        raise RuntimeError(f"{name}: patches differ from the image processor's by {float(difference):.3f}")


class Reader(nn.Module):
    """A model with everything that training adds: fixed positions and mask, and the probes."""

    def __init__(self, model: Any, name: str) -> None:
        super().__init__()
        self.model = model
        width, grid = SIZES[name]["width"], SIZES[name]["side"] // SIZES[name]["patch"]
        self.probes = nn.ModuleList(nn.Linear(width, len(values)) for values in (COLOURS, DIRECTIONS, MARKS, CELLS))
        positions, mask = _layout()
        self.register_buffer("positions", positions[:, None].expand(3, PICTURES, -1).contiguous())
        self.register_buffer("mask", mask[None, None])
        self.register_buffer("grid", torch.tensor([[1, grid, grid]] * PICTURES))
        self.places = torch.arange(VISUAL).repeat(PICTURES, 1)

    def text_loss(self, seen: torch.Tensor, tokens: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> Any:
        """Weighted cross-entropy of the output tokens."""
        text = self.model.model.language_model
        around = torch.tensor([TOKEN["<vision_start>"], TOKEN["<vision_end>"]], device=tokens.device)
        before, after = text.embed_tokens(around)[:, None, None].expand(2, len(tokens), 1, -1)
        embedded = torch.cat([before, seen, after, text.embed_tokens(tokens)], dim=1)
        hidden = embedded
        rotary = text.rotary_emb(hidden, self.positions)
        for layer in text.layers:
            hidden = layer(hidden, attention_mask=self.mask, position_embeddings=rotary)
        logits = self.model.lm_head(text.norm(hidden[:, VISUAL + 2 :]))
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return (losses * weights.flatten()).sum() / weights.sum()

    def forward(self, given: Batch, text_loss: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of the text and of the probes."""
        seen = self.model.model.visual(given.pixels, grid_thw=self.grid).pooler_output
        seen = seen.reshape(PICTURES, VISUAL, -1)
        wanted = (*given.cells, self.places)
        parts = [
            nn.functional.cross_entropy(probe(seen).flatten(0, 1), each.flatten())
            for probe, each in zip(self.probes, wanted, strict=True)
        ]
        probed = torch.stack(parts).sum()
        return text_loss(seen, given.tokens, given.labels, given.weights), probed


def _layout() -> tuple[torch.Tensor, torch.Tensor]:
    """Positions (3, tokens) as the model counts them, and what may see what."""
    side = math.isqrt(VISUAL)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    picture_places = 1 + torch.stack([torch.zeros(VISUAL, dtype=torch.long), rows.flatten(), columns.flatten()])
    # After a picture, positions go on from its longer side.
    after = 1 + side
    parts = [torch.zeros(3, 1, dtype=torch.long), picture_places, torch.full((3, 1), after)]
    owner = [torch.full((VISUAL + 2,), -1)]
    for number, mode in enumerate(kinds_of_a_row()):
        parts.append((after + 1 + torch.arange(LENGTH[mode])).expand(3, -1))
        owner.append(torch.full((LENGTH[mode],), number))
    owners = torch.cat(owner)
    place = torch.arange(len(owners))
    allowed = (place[:, None] >= place) & ((owners[:, None] == owners) | (owners == -1))
    return torch.cat(parts, dim=1), torch.where(allowed, 0.0, -1e9)


def train(name: str, *, seed: int, steps: int, learning_rate: float, threads: int) -> tuple[Any, dict[str, Any]]:
    """Train one model; returns it and how it went."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    check_patches(name)
    rng = np.random.default_rng([seed, sorted(SIZES).index(name)])
    reader = Reader(build(name), name)
    parameters = sum(p.numel() for p in reader.model.parameters())
    text_loss = torch.compile(reader.text_loss)
    optimiser = torch.optim.AdamW(reader.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / WARM_UP, 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0))) + 0.01),
    )
    start, smoothed = time.monotonic(), 0.0
    for step in range(steps):
        loss, probed = reader(batch(rng, name), text_loss)
        optimiser.zero_grad()
        (loss + 0.5 * probed).backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimiser.step()
        rate.step()
        smoothed += (float(loss.detach()) - smoothed) / min(step + 1, 100)
        if step % 100 == 99:
            took = time.monotonic() - start
            print(
                f"{name} {step + 1}/{steps}: loss {smoothed:.3f}, cells {float(probed.detach()):.3f}, {took:.0f} s",
                flush=True,
            )
    facts = {
        "model": name,
        "seed": seed,
        "steps": steps,
        "learning_rate": learning_rate,
        "parameters": parameters,
        "final_loss": round(smoothed, 4),
        "seconds": round(time.monotonic() - start),
        "threads": threads,
    }
    return reader.model, facts


def main() -> None:
    """Train what was asked for."""
    parser = argparse.ArgumentParser(description="Train the pair of the experiment.")
    parser.add_argument("models", nargs="*", choices=[*SIZES, []], default=list(SIZES))
    parser.add_argument("--out", type=Path, default=HERE / "weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="instead of the schedule's")
    parser.add_argument("--threads", type=int, help="instead of the schedule's")
    options = parser.parse_args()
    for name in options.models or SIZES:
        schedule: dict[str, Any] = dict(SCHEDULE[name])
        schedule |= {key: value for key in ("steps", "threads") if (value := getattr(options, key))}
        model, facts = train(name, seed=options.seed, **schedule)
        save(model, name, options.out / name, facts=facts)


if __name__ == "__main__":
    main()
