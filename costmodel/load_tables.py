"""Table of a prediction under load."""

from __future__ import annotations

from costmodel.load import Load
from costmodel.render import Table
from costmodel.units import format_seconds

__all__ = ["load_table"]


def load_table(load: Load) -> Table:
    """One row a number of clients."""
    rows = tuple(
        (
            str(point.concurrency),
            *(
                f"{format_seconds(time.value)} [{format_seconds(time.low)}, {format_seconds(time.high)}]"
                for time in (point.ttft_s, point.tpot_s, point.total_s)
            ),
            f"{point.requests_per_s.value:.3g}",
            f"{point.output_tokens_per_s.value:.4g}",
            f"{point.running:.3g}",
            point.limit,
        )
        for point in load.points
    )
    request = load.workload
    images = f"{', '.join(map(str, request.images))}; " if request.images else ""
    return Table(
        title=f"{load.model} on {load.hardware}, {load.engine}, {load.dtype}: clients that ask again at once",
        columns=("clients", "TTFT", "TPOT", "total", "requests/s", "tokens/s", "in engine", "limited by"),
        rows=rows,
        footer=(
            f"{images}{load.prompt_tokens_total} prompt tokens, {request.output_tokens} output tokens in the mean; "
            f"{load.policy}, {load.slots} slots, passes of {load.pass_tokens} tokens; {load.interval:.0%} interval",
        ),
    )
