"""What the experiment measures: the device, every request of every policy, and the policies themselves, interleaved."""

from __future__ import annotations

import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from calibrate.engines.checkpoint import Checkpoint
from calibrate.measure.device import CpuDevice
from calibrate.measure.journal import Journal, read_journal
from calibrate.measure.run import CalibrationPlan, calibrate_device
from calibrate.measure.slices import SliceGrid
from calibrate.policies.engine import Pair, Side
from calibrate.policies.items import read_items
from calibrate.policies.prompts import Prompts
from calibrate.policies.session import Session, SideOptions, plan_from
from costmodel import load_engine, load_hardware, load_model
from costmodel.documents import read_document
from costmodel.files import write_atomic
from costmodel.policy.catalog import catalog
from costmodel.policy.run import Item, run_item
from costmodel.profiles import HardwareProfile
from costmodel.specs.images import ImageSize

__all__ = ["DEVICE", "ENGINE", "TRANSFERS", "calibrate", "measure_policies", "prompts", "record"]

HERE = Path(__file__).parent
DEVICE = CpuDevice(threads=1)
ENGINE = "hf-eager"
TRANSFERS = (
    "all:1",
    *(
        f"{selector}:{share}"
        for selector in ("attention", "information", "last", "head-and-tail")
        for share in (0.6, 0.3)
    ),
)
# Pictures and prompts about as small as those of the task.
_GRID = SliceGrid(
    images=tuple(ImageSize.parse(size) for size in ("48x48", "60x40", "84x30")),
    text_tokens=(6, 20, 44),
    shell_requests=tuple(
        (ImageSize.parse(size), tokens)
        for size, tokens in (("48x48", 4), ("60x40", 16), ("84x30", 8), ("48x48", 28), ("40x60", 6))
    ),
)


def prompts() -> Prompts:
    """The words that the pair was trained with."""
    return read_document(HERE / "prompts.json", Prompts)


def calibrate(weights: Path, out: Path, *, budget_s: float) -> HardwareProfile:
    """Measure slices of both models on this machine; a profile that is there is taken as it is."""
    path = out / "profile.json"
    if not path.exists():
        plan = CalibrationPlan(
            models=tuple(load_model(str(weights / name)) for name in ("small", "large")),
            engine=load_engine(ENGINE).key,
            dtype="fp32",
            budget_s=budget_s,
            quick=True,
            seed=0,
            grid=_GRID,
        )
        profile = calibrate_device(
            DEVICE, plan, measurements=out / "slices.jsonl", datasheet=None, progress=lambda share, what: None
        )
        write_atomic(path, profile.model_dump_json(indent=1) + "\n")
    return load_hardware(str(path))


def record(weights: Path, items: Path, out: Path, *, transfers: tuple[str, ...] = TRANSFERS, samples: int = 3) -> Path:
    """Ask both models everything about every item; returns the traces. Goes on where it stopped."""
    session = Session(
        plan=plan_from("record", transfers=transfers, samples=samples),
        small=SideOptions(f"local:{weights / 'small'}"),
        large=SideOptions(f"local:{weights / 'large'}"),
        items=items,
        out=out,
        prompts=prompts(),
        device="cpu",
    )
    session.run(_Progress("recording"))
    return out


def measure_policies(weights: Path, items: Path, out: Path, *, count: int, repeats: int = 2) -> list[dict[str, Any]]:
    """Run every policy of the catalogue on the same items, in turn and in random order; rows with times and routes.

    The two models are warm, and share one thread. The latency of a policy is that of its requests, one after the other;
    reading the picture's file and turning tokens to text is the client's, and only in ``wall_s``.
    """
    executor = ThreadPoolExecutor(max_workers=1)
    sides = {}
    for role in ("small", "large"):
        checkpoint = Checkpoint(weights / role, DEVICE, dtype="fp32", executor=executor)
        sides[role] = Side(checkpoint, role, load_model(str(weights / role)))
    pair = Pair(sides, prompts())  # type: ignore[arg-type]
    chosen = read_items(items)[:count]
    with Journal(out, DEVICE.describe()) as journal:
        asyncio.run(_in_turn(chosen, pair, journal, repeats))
    return read_journal(out)[1]


async def _in_turn(items: tuple[Item, ...], pair: Pair, journal: Journal, repeats: int) -> None:
    known = {(row["item_id"], row["policy"], row["repeat"]) for row in journal}
    rng, progress = random.Random(0), _Progress("running policies")
    for item in items[:3]:
        for plan in catalog():
            await run_item(plan, item, pair)
    for repeat in range(repeats):
        for number, item in enumerate(items):
            for plan in rng.sample(catalog(), len(catalog())):
                if (item.item_id, plan.name, repeat) in known:
                    continue
                start = time.perf_counter()
                outcome = await run_item(plan, item, pair)
                journal.append(
                    {
                        "item_id": item.item_id,
                        "policy": plan.name,
                        "repeat": repeat,
                        "route": outcome.route,
                        "answer": outcome.answer,
                        "correct": outcome.answer == item.reference,
                        "small_tokens": outcome.output_tokens("small"),
                        "large_tokens": outcome.output_tokens("large"),
                        "total_s": sum(reply.total_s or 0.0 for reply in outcome.replies.values()),
                        "wall_s": time.perf_counter() - start,
                    }
                )
            progress((repeat + (number + 1) / len(items)) / repeats, item.item_id)


class _Progress:
    """One line on standard error every tenth of the way."""

    def __init__(self, what: str) -> None:
        self._what, self._tenth = what, 0

    def __call__(self, share: float, text: str) -> None:
        import sys

        if int(share * 10) > self._tenth:
            self._tenth = int(share * 10)
            print(f"{self._what}: {share:.0%}", file=sys.stderr, flush=True)
