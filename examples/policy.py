"""Small model, large model, or both? The question from recorded answers to a choice, figures included.

Usage: python examples/policy.py build/policy

The answers are made up (see policy_traces.py); everything else is what a team would run on its own traces.
"""

from __future__ import annotations

import sys
from pathlib import Path

from costmodel import choose_policy, load_engine, load_hardware, load_model
from costmodel.plots import Figure, pareto_figure, surface_figure, write_figure
from costmodel.policy.goals import Goal
from costmodel.policy.results import PolicyChoice
from costmodel.policy.serving import Served
from costmodel.policy.surfaces import framework_surface, image_surface, token_surface
from costmodel.policy.tables import policy_tables
from costmodel.policy.traces import read_traces
from costmodel.render import Format, emit
from costmodel.specs.images import ImageSize

TRACES = Path(__file__).parent / "synthetic_traces.jsonl"
SMALL, LARGE = load_model("Qwen/Qwen3-VL-2B-Instruct"), load_model("Qwen/Qwen3-VL-8B-Instruct")
HARDWARE, ENGINE = load_hardware("h100-sxm"), load_engine("vllm-0.7.2")
IMAGE = (ImageSize(width=1024, height=768),)


def chosen(budget_s: float) -> PolicyChoice:
    """Most accurate policy within a budget."""
    return choose_policy(
        SMALL, LARGE, read_traces(TRACES), HARDWARE, ENGINE, goal=Goal(budget_s=budget_s), price_per_hour=2.5
    )


def figures(choice: PolicyChoice) -> dict[str, Figure]:
    """Pareto front and break-even surfaces."""
    small, large = Served(SMALL, HARDWARE, ENGINE), Served(LARGE, HARDWARE, ENGINE)
    tokens = token_surface(
        small,
        large,
        images=IMAGE,
        prompt_tokens=80,
        small_tokens=range(1, 402, 20),
        large_tokens=range(1, 202, 10),
    )
    sides = image_surface(
        small,
        large,
        sides_pixels=range(224, 2273, 128),
        prompt_tokens=80,
        small_tokens=range(1, 202, 10),
        large_tokens=32,
    )
    framework = framework_surface(
        small,
        large,
        images=IMAGE,
        prompt_tokens=80,
        agreement=[i / 20 for i in range(21)],
        reasoning_tokens=range(20, 1021, 50),
        large_reasoning_tokens=330,
    )
    return {
        "pareto": pareto_figure(choice),
        "surface-tokens": surface_figure(tokens),
        "surface-images": surface_figure(sides),
        "surface-framework": surface_figure(framework),
    }


def main(out: Path) -> None:
    """Print the choice, write the figures."""
    choice = chosen(budget_s=4.0)
    emit(policy_tables(choice), choice.model_dump_json(indent=1), Format.TABLE)
    for name, figure in figures(choice).items():
        write_figure(out / f"{name}.html", figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
