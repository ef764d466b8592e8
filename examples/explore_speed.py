"""How long the server works when a control of the page is moved.

Usage: python examples/explore_speed.py [LIMIT_MS]

Every row changes one control to values not seen before and draws headline and open view, as the page does. Processor
time is told beside the clock: another program on the machine stretches the one, not the other. With a limit, the exit
status is 1 where the processor time of a control is above it.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median

from costmodel.errors import CostModelError
from costmodel.explore.results import Results
from costmodel.explore.state import DEFAULTS, FIELDS, State
from costmodel.explore.summary import cards, headline
from costmodel.explore.views import ALL_VIEWS
from costmodel.render import Format, Table, emit
from costmodel.units import MILLI

TRACES = Path(__file__).parent / "synthetic_traces.jsonl"
PAIRS = ("Qwen/Qwen3-VL-4B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct", "OpenGVLab/InternVL3-2B-hf")
MOVES: Mapping[str, tuple[object, ...]] = {
    "small": PAIRS,
    "large": ("Qwen/Qwen3-VL-32B-Instruct", "Qwen/Qwen2.5-VL-72B-Instruct", "OpenGVLab/InternVL3-78B-hf"),
    "hardware": ("a100-sxm-80gb", "b200-sxm", "l40s"),
    "devices": (("gb200", "h20", "l4"), ("h200-sxm", "rtx-4090", "a40"), ("rtx-5090", "l40", "a10")),
    "engine": ("hf-eager", "llama.cpp"),
    "quantization": ("w4a16", "w8a8-fp8"),
    "tp": (2, 4, 8),
    "width": (333, 1444, 2555),
    "height": (333, 1444, 2555),
    "images": (0, 2, 5),
    "prompt_tokens": (10, 1234, 9876),
    "batch": (2, 8, 32),
    "large_output": (7, 77, 777),
    "small_output": (9, 99, 999),
    "role": ("small",),
    "stage": ("encode", "prefill"),
    "budget_s": (1.0, 4.0, 9.0),
    "percentile": (50.0, 90.0),
}
SHOWN_IN = {"devices": "devices", "role": "roofline", "stage": "roofline", "budget_s": "policy", "percentile": "policy"}


def moves() -> Iterator[tuple[str, str, list[State]]]:
    """Control, view, and states that differ from the one before in that control alone."""
    for name, values in MOVES.items():
        for view in (SHOWN_IN[name],) if name in SHOWN_IN else tuple(view.key for view in ALL_VIEWS):
            start = DEFAULTS.model_copy(update={"view": view})
            yield name, view, [start.model_copy(update={name: value}) for value in values]


def measured(name: str, view: str, states: list[State]) -> tuple[str, ...]:
    """One row: clock and processor time of a move, the median and the worst."""
    results = Results()
    token = results.uploads.add(TRACES.read_bytes(), TRACES.name)
    work(results, DEFAULTS.model_copy(update={"view": view}), token)
    for model in itertools.chain(MOVES["small"], MOVES["large"]):
        results.catalogue.model(str(model))
    times = [work(results, state, token) for state in states]
    clock, processor = ([each[i] / MILLI for each in times] for i in (0, 1))
    return name, view, f"{median(clock):.0f}", f"{max(clock):.0f}", f"{median(processor):.0f}", f"{max(processor):.0f}"


def work(results: Results, state: State, token: str) -> tuple[float, float]:
    """Draw headline and view: seconds by the clock and of the processor."""
    view = next(view for view in ALL_VIEWS if view.key == state.view)
    clock_s, processor_s = time.perf_counter(), time.process_time()
    headline(results, state)
    cards(results, state)
    with suppress(CostModelError):  # what the page would say
        view.render(results, state, token)
    return time.perf_counter() - clock_s, time.process_time() - processor_s


def main(limit_ms: float | None) -> int:
    """Print the table."""
    check_complete()
    rows = [measured(*move) for move in moves()]
    header = ("control", "view", "median ms", "worst ms", "processor, median", "processor, worst")
    emit([Table("Server time of a move", header, tuple(rows))], "", Format.TABLE)
    worst = max(float(row[-1]) for row in rows)
    print(f"worst processor time: {worst:.0f} ms")
    return int(limit_ms is not None and worst > limit_ms)


def check_complete() -> None:
    """Every control is moved; the view itself is what is drawn."""
    missing = set(FIELDS) - set(MOVES) - {"view"}
    if missing:
        raise SystemExit(f"no moves of {', '.join(sorted(missing))}")


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else None))
