"""The check against published runs, as tables."""

from __future__ import annotations

from calibrate.accuracy.published import PublishedCheck, PublishedScore
from costmodel.render import Table

__all__ = ["published_page", "published_tables"]

_SLOPE_WANTED = 0.1


def published_tables(result: PublishedCheck) -> list[Table]:
    """One table a check; percentages of the measured time."""
    checks = dict.fromkeys(score.check for score in result.scores)
    tables = [_check_table(check, [s for s in result.scores if s.check == check]) for check in checks]
    return [*tables, *([_slope_table(result)] if result.slopes else [])]


def published_page(result: PublishedCheck) -> str:
    """Text of ``docs/accuracy-engines.md``."""
    parts = [_INTRODUCTION.format(interval=100 * result.interval)]
    for table in published_tables(result):
        lines = [table.columns, tuple("---" for _ in table.columns), *table.rows]
        parts += [f"## {table.title}\n", "".join(f"| {' | '.join(line)} |\n" for line in lines)]
    parts.append(_LIMITS)
    return "\n".join(parts)


def _check_table(check: str, scores: list[PublishedScore]) -> Table:
    rows = tuple(
        (
            score.group,
            str(score.n),
            _percent(score.mape),
            _percent(score.median_ape),
            _percent(score.worst_ape),
            f"{100 * score.bias:+.1f}",
            f"{100 * score.coverage:.0f}",
            _verdict(score),
        )
        for score in scores
    )
    columns = ("runs left out", "n", "MAPE %", "median %", "worst %", "bias %", "cover %", "wanted %")
    return Table(check[0].upper() + check[1:], columns, rows)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _verdict(score: PublishedScore) -> str:
    if score.wanted is None:
        return ""
    worst = "" if score.wanted_worst is None else f", none above {100 * score.wanted_worst:g}"
    return f"{100 * score.wanted:g}{worst}: {'met' if score.met else 'missed'}"


def _slope_table(result: PublishedCheck) -> Table:
    rows = tuple(
        (
            slope.model,
            slope.over,
            slope.at,
            f"{slope.measured:.3f}",
            f"{slope.predicted:.3f}",
            f"{100 * slope.error:+.1f}",
            f"{100 * _SLOPE_WANTED:g}: {'met' if abs(slope.error) <= _SLOPE_WANTED else 'missed'}",
        )
        for slope in result.slopes
    )
    columns = ("encoder", "time over", "at", "measured exponent", "predicted", "error %", "wanted %")
    return Table("Vision encoder on A100, fp16: shape of the curve", columns, rows)


_INTRODUCTION = """# Engines against published runs

Printed by `costmodel validate --published ../shared/realdata --out docs/accuracy-engines.md --plot
docs/images/engines-parity.png`. Every run scored is one that the fit has not seen; errors are relative to the
measured time, "cover" is the share inside the {interval:g} % interval.

The runs: single requests to vLLM 0.7.2, from quantised-model cards (Red Hat AI, Neural Magic, February 2025);
stages on a Jetson AGX Thor, from the documentation of TensorRT Edge-LLM 0.9.0; vision transformers, from
FasterTransformer's vit guide.

- *Text, other half of the shapes*: host terms and kernels fitted on half of the prompt and answer lengths, a
  chessboard over both; the other half scored; then the other way round.
- *Images*: kernels and the cost of a step from the text runs, costs of an image and a megapixel from the image runs
  of one device; the image runs of the other device scored.
- *Device never seen*, *model never seen*: everything fitted on the others. The device has its kernel tables or its
  datasheet, and of 4-bit and int8 kernels the mean of what other devices showed.

![predicted against measured](images/engines-parity.png)
"""

_LIMITS = """## What limits it

- *A6000 never seen*: it has no kernel tables. With a few runs of its own the share of the memory's rate comes out
  at 92 %; priors of other devices say less, and quantised kernels learned on A100 and H100 are slower than its own.
- *Quantised kernels on a device never seen*: int8 GEMMs were measured on two devices, 4-bit ones on three, by two
  kernels (Marlin, on H100 Machete). A mean of one or two is no law of devices. A dozen runs on the device bring it
  to 2 %.
- *Model never seen on H100*: its tables hold, but the text models lie on both sides of them, and with one left out
  two are few to average over.
- *Intervals* of shapes never seen are too wide (all runs inside): they are made for models never seen, whose errors
  are larger.
- *Prefill on Thor with 4-bit weights*: the text runs have prompts of 61 tokens at most, from which its rate can't
  be told. Its other prefills scatter: 61 tokens of Qwen3-1.7B took 12.0 ms, 292 tokens of the VLM with the same
  decoder 10.7 ms.
- *Resolution at batch 1 on A100*: FasterTransformer's small kernels wait for each other; a ViT-B of 197 tokens
  takes 128 µs a layer whatever its size, which no coefficient of the A100 tables says.
- Not determined by these runs: costs that grow with the request from those of an image where every request has one
  image, and a step from a request where all answers have one length; the fit says so.
"""
