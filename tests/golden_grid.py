"""The golden grid: predictions of many models, devices, engines and requests, as they were when somebody last looked.

A change of the code or of a profile that moves one of them fails ``test_golden.py``, which prints old against new.
Where the change is meant, write the grid again and say why:

    python tests/golden_grid.py --reason "what changed, and why the new numbers are better"
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "golden"
TABLE, REASONS = FOLDER / "predictions.csv", FOLDER / "REASONS.md"

MODELS = (
    "Qwen/Qwen2.5-VL-7B-Instruct",
    "Qwen/Qwen3-VL-8B-Instruct",
    "Qwen/Qwen3-VL-30B-A3B-Instruct",
    "OpenGVLab/InternVL3-8B-hf",
    "google/gemma-3-4b-it",
    "meta-llama/Llama-3.2-11B-Vision-Instruct",
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
    "Qwen/Qwen3-8B",
)
HARDWARE = ("a100-sxm-80gb", "h100-sxm", "b200-sxm", "l40s", "rtx-a6000", "arc-b60", "mi300x")
ENGINES = ("vllm-0.7.2", "hf-eager")
# Images, text tokens, output tokens, batch, number format of the layers, devices.
REQUESTS = (
    ("", 512, 128, 1, "none", 1),
    ("1024x768", 64, 256, 1, "none", 1),
    ("1920x1080;640x480", 200, 32, 4, "none", 1),
    ("1024x768", 64, 256, 1, "w4a16", 2),
)
NUMBERS = ("preprocess_s", "encode_s", "prefill_s", "decode_s", "total_s", "total_low_s", "total_high_s")


@dataclass(frozen=True)
class Cell:
    """One prediction: what was asked, and the seconds; none where it is refused."""

    key: tuple[str, ...]
    seconds: tuple[str, ...]


def predicted() -> Iterator[Cell]:
    """Every cell of the grid, predicted now."""
    from costmodel import Workload, load_engine, load_hardware, load_model, predict
    from costmodel.errors import CostModelError
    from costmodel.specs.images import ImageSize

    for model in map(load_model, MODELS):
        for hardware in map(load_hardware, HARDWARE):
            for engine in map(load_engine, ENGINES):
                for images, prompt, output, batch, quantization, devices in REQUESTS:
                    key = (model.name, hardware.key, engine.key, images, *map(str, (prompt, output, batch)),
                           quantization, str(devices))  # fmt: skip
                    sizes = tuple(ImageSize.parse(text) for text in images.split(";") if text)
                    workload = Workload(images=sizes, prompt_tokens=prompt, output_tokens=output, batch=batch)
                    try:
                        found = predict(
                            model, hardware, engine, workload, quantization=quantization, num_devices=devices
                        ).latency
                    except CostModelError as error:
                        yield Cell(key, (type(error).__name__,) * len(NUMBERS))
                        continue
                    stages = (found.preprocess_s, found.encode_s, found.prefill_s, found.decode_s, found.total_s)
                    values = (*(stage.value for stage in stages), found.total_s.low, found.total_s.high)
                    yield Cell(key, tuple(f"{value:.6g}" for value in values))


KEYS = ("model", "hardware", "engine", "images", "prompt_tokens", "output_tokens", "batch", "quantization", "devices")


def stored() -> list[Cell]:
    """The grid as it was when somebody last looked."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [Cell(tuple(row[: len(KEYS)]), tuple(row[len(KEYS) :])) for row in rows]


def digest() -> str:
    """What ties a reason to the table that it explains."""
    return hashlib.sha256(TABLE.read_bytes()).hexdigest()[:16]


def changed(old: Cell, new: Cell, tolerance: float = 2e-5) -> float:
    """Largest relative change of a cell; infinite where it used to be refused, or is now."""
    largest = 0.0
    for before, after in zip(old.seconds, new.seconds, strict=True):
        if before == after:
            continue
        try:
            largest = max(largest, abs(float(after) / float(before) - 1) if float(before) else float("inf"))
        except ValueError:
            return float("inf")
    return largest if largest > tolerance else 0.0


def differences(old: list[Cell], new: list[Cell]) -> list[str]:
    """Cells that moved, the worst first, as lines to read."""
    before, after = ({cell.key: cell for cell in cells} for cells in (old, new))
    lines = [
        f"{' '.join(key)}: only in the {'old' if key in before else 'new'} grid" for key in before.keys() ^ after.keys()
    ]
    moved = sorted(((changed(before[key], after[key]), key) for key in before.keys() & after.keys()), reverse=True)
    for size, key in moved:
        if size:
            numbers = ", ".join(
                f"{name} {was} → {now}"
                for name, was, now in zip(NUMBERS, before[key].seconds, after[key].seconds, strict=True)
                if was != now
            )
            lines.append(f"{size:+.3%} {' '.join(part or '-' for part in key)}: {numbers}")
    return lines


def main() -> None:
    """Write the grid and its reason."""
    parser = argparse.ArgumentParser(description="Write the golden grid again.")
    parser.add_argument("--reason", required=True, help="what changed, and why the new numbers are better")
    reason = parser.parse_args().reason.strip()
    new = list(predicted())
    if TABLE.exists():
        moved = differences(stored(), new)
        sys.stdout.write("".join(f"{line}\n" for line in moved[:30]) + f"{len(moved)} of {len(new)} cells moved\n")
    FOLDER.mkdir(exist_ok=True)
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*KEYS, *NUMBERS))
        writer.writerows((*cell.key, *cell.seconds) for cell in new)
    with REASONS.open("a", encoding="utf-8") as file:
        file.write(f"- `{digest()}` {reason}\n")


if __name__ == "__main__":
    main()
