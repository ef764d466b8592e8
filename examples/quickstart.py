"""One request on several devices, and the answer lengths at which a small and a large model are equally fast.

Usage: python examples/quickstart.py
"""

from __future__ import annotations

from costmodel import ImageSize, Workload, break_even, load_engine, load_hardware, load_model, predict
from costmodel.units import format_seconds

SMALL, LARGE = load_model("Qwen/Qwen3-VL-2B-Instruct"), load_model("Qwen/Qwen3-VL-8B-Instruct")
ENGINE = load_engine("vllm-0.7.2")
REQUEST = Workload(images=(ImageSize(width=1024, height=768),), prompt_tokens=100, output_tokens=64)


def main() -> None:
    """Print a line for each device."""
    for key in ("l40s", "h100-sxm"):
        hardware = load_hardware(key)
        total = predict(LARGE, hardware, ENGINE, REQUEST).latency.total_s
        point = break_even(SMALL, LARGE, hardware, ENGINE, REQUEST, large_output_tokens=32).break_even_output_tokens
        span = f"{format_seconds(total.low)} to {format_seconds(total.high)}"
        lengths = "never" if point is None else f"{point.value:.0f} ({point.low:.0f} to {point.high:.0f}) small tokens"
        print(f"{key}: {format_seconds(total.value)} ({span}); 32 large tokens take as long as {lengths}")


if __name__ == "__main__":
    main()
