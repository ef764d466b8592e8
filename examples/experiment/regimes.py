"""Where the framework wins and where it loses: by what is asked, chain length and noise, measured; then by a model.

Usage: python examples/experiment/regimes.py build/experiment [--noise 0.13 0.39] [--items 240] [--images folder]

The measured part replays the answers that evaluate.py recorded; ``--noise`` records further items under other noise.
The last table is no measurement: it takes the predicted costs of a request, and makes the accuracies up.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from compare import mean_seconds
from measure import ENGINE, record
from model_map import model_table
from questions import write_items

from costmodel import load_engine, load_hardware, load_model
from costmodel.policy.bootstrap import PairedAccuracy
from costmodel.policy.catalog import plan_named
from costmodel.policy.replay import replay
from costmodel.policy.traces import Trace, TraceSet, read_traces
from costmodel.render import Format, Table, emit

HERE = Path(__file__).parent
FRAMEWORK = "mutual-verification"
RIVALS = ("small-short", "small-reason", "large-short", "large-reason", "always-transfer")
INTERVAL = 0.9


def cell(name: str, traces: Iterable[Trace], deployed: dict[str, Any]) -> dict[str, Any]:
    """The framework against its rivals on the items of one regime.

    The verdict: ``loses to X`` where a rival is faster and not less accurate, beyond doubt or at least as measured;
    ``wins`` where every rival is slower, or less accurate with an interval of the difference that leaves out zero.
    """
    recorded = TraceSet.of(list(traces), small="small", large="large")
    names = (FRAMEWORK, *RIVALS)
    results = {each: replay(plan_named(each), recorded) for each in names}
    accuracies = PairedAccuracy.of(np.stack([results[each].correct for each in names]))
    seconds = {each: mean_seconds(results[each], recorded, **deployed) for each in names}
    gaps = {each: accuracies.difference(0, index, INTERVAL) for index, each in enumerate(names) if index}
    faster = [each for each in RIVALS if seconds[each] < seconds[FRAMEWORK]]
    beaten = [each for each in faster if gaps[each].value <= 0]
    open_to = [each for each in faster if gaps[each].value > 0 >= gaps[each].low]
    routes = results[FRAMEWORK].route_shares()
    agreed = results[FRAMEWORK].route == 0
    return {
        "name": name,
        "items": len(recorded),
        "accuracy": {each: float(results[each].correct.mean()) for each in names},
        "seconds": seconds,
        "against": {each: gap.model_dump() for each, gap in gaps.items()},
        "agree": routes["agree"],
        "wrongly": float((agreed & ~results[FRAMEWORK].correct).mean()),
        "verdict": f"loses to {', '.join(beaten)}" if beaten else f"open: {', '.join(open_to)}" if open_to else "wins",
    }


def cells(traces: Sequence[Trace], deployed: dict[str, Any], suffix: str = "") -> list[dict[str, Any]]:
    """Kinds of questions, and each with one or two steps, and three or four."""
    found = []
    for kind in ("colour", "mark"):
        for label, steps in (("", "1234"), (", 1-2 steps", "12"), (", 3-4 steps", "34")):
            here = [t for t in traces if t.item_id.startswith(kind) and t.item_id.split("-")[1] in steps]
            found.append(cell(f"{kind}{label}{suffix}", here, deployed))
    return found


def table(found: Sequence[dict[str, Any]]) -> Table:
    """Cells as rows."""
    return Table(
        title="where mutual verification wins",
        columns=("regime", "items", *(f"{each}" for each in (FRAMEWORK, *RIVALS)), "agree", "wrongly", "verdict"),
        rows=tuple(
            (
                row["name"],
                str(row["items"]),
                *(
                    f"{100 * row['accuracy'][each]:.0f} % {1000 * row['seconds'][each]:.0f} ms"
                    for each in (FRAMEWORK, *RIVALS)
                ),
                f"{100 * row['agree']:.0f} %",
                f"{100 * row['wrongly']:.1f} %",
                row["verdict"],
            )
            for row in found
        ),
        footer=(
            "accuracy and mean predicted latency; agree: items that end at the first agreement, wrongly: of all items, "
            "those that agree on a wrong answer",
            f"open: faster rivals that the items can't tell from the framework in accuracy ({INTERVAL:.0%} interval)",
        ),
    )


def main() -> None:
    """Record what is missing, print the map."""
    parser = argparse.ArgumentParser(description="Where the framework wins and where it loses.")
    parser.add_argument("out", type=Path, help="folder of evaluate.py")
    parser.add_argument("--weights", type=Path, default=HERE / "weights")
    parser.add_argument("--noise", type=float, nargs="*", default=[])
    parser.add_argument("--items", type=int, default=240, help="for each further noise")
    parser.add_argument("--images", type=Path, help="write the figure as PNG to this folder")
    options = parser.parse_args()
    deployed = {
        "models": tuple(load_model(str(options.weights / name)) for name in ("small", "large")),
        "profile": load_hardware(str(options.out / "profile.json")),
        "engine": load_engine(ENGINE),
    }
    found = cells(read_traces(options.out / "traces.jsonl"), deployed)
    for noise in options.noise:
        folder = options.out / f"noise-{noise:g}"
        if not (folder / "items.jsonl").exists():
            write_items(folder, options.items, seed=round(1000 * noise), noise=noise)
        path = record(options.weights, folder / "items.jsonl", folder / "traces.jsonl", transfers=("all:1",), samples=1)
        found += cells(read_traces(path), deployed, f", noise {noise:g}")
    emit([table(found)], "", Format.TABLE)
    emit([model_table(found[0]["seconds"])], "", Format.TABLE)
    (options.out / "regimes.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.images:
        from figure import regime_figure

        regime_figure(found).write_image(options.images / "experiment-regimes.png", width=860, scale=1.5)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
