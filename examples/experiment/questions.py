"""Fresh questions of the task as items that ``costmodel run`` reads: pictures as files, questions as JSON Lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from task import KINDS, Kind, draw, picture, question, walk

__all__ = ["write_items"]


def write_items(
    folder: Path,
    count: int,
    *,
    seed: int,
    kinds: Sequence[Kind] = KINDS,
    steps: Sequence[int] = (1, 2, 3, 4),
    noise: float = 0.26,
) -> Path:
    """Write ``count`` items, kinds and numbers of steps in turn; returns the file of items.

    The name of an item says what it is: kind, steps, number.
    """
    rng = np.random.default_rng([seed, count])
    pictures = draw(rng, count, noise=noise)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(count):
        kind, hops = kinds[index % len(kinds)], steps[index // len(kinds) % len(steps)]
        start = int(rng.integers(16))
        name = f"pictures/{seed}-{index:04d}.png"
        picture(pictures, index).save(folder / name)
        row = {
            "item_id": f"{kind}-{hops}-{index:04d}",
            "question": question(kind, hops, start),
            "answer": pictures.answer(index, kind, walk(pictures.arrows[index], start, hops)[-1]),
            "images": [name],
        }
        lines.append(json.dumps(row) + "\n")
    path = folder / "items.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    return path


if __name__ == "__main__":
    write_items(Path(sys.argv[1]), int(sys.argv[2]), seed=int(sys.argv[3]))
