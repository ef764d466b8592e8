"""What the page shows: one value a control, in the URL and in a typed form; a value that can't be is replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from costmodel.errors import InputError, UnknownKeyError
from costmodel.explore.catalogue import Catalogue
from costmodel.image_rules.layout import MAX_SIDE_PIXELS
from costmodel.program import QUANTIZATIONS
from costmodel.roofline import STAGES
from costmodel.specs.base import Frozen
from costmodel.specs.images import ImageSize
from costmodel.specs.workload import Workload

__all__ = ["DEFAULTS", "FIELDS", "VIEWS", "State", "parse_query", "parse_values", "to_query"]

VIEWS = {
    "latency": "Latency",
    "roofline": "Roofline",
    "devices": "Devices",
    "policy": "Policies",
    "share": "Share",
}

_LONGEST_QUERY = 4096
_SHOWN = 40


class State(Frozen):
    """Values of all controls.

    Attributes
    ----------
    devices
        GPUs beside the chosen one, in the comparison.
    images
        Equal images a request.
    view
        Which part of the page is open.
    role, stage
        Whose stage the roofline shows.
    budget_s
        Most latency that a policy may take; ``None``: no goal.
    """

    small: str = "Qwen/Qwen3-VL-2B-Instruct"
    large: str = "Qwen/Qwen3-VL-8B-Instruct"
    hardware: str = "h100-sxm"
    devices: tuple[str, ...] = ("a100-sxm-80gb", "l40s", "b200-sxm")
    engine: str = "vllm-0.7.2"
    quantization: str = "none"
    tp: int = 1
    width: int = 1024
    height: int = 768
    images: int = 1
    prompt_tokens: int = 100
    batch: int = 1
    large_output: int = 32
    small_output: int = 200
    view: str = "latency"
    role: str = "large"
    stage: str = "decode"
    budget_s: float | None = None
    percentile: float = 95.0

    def workload(self, output_tokens: int) -> Workload:
        """Request of one model."""
        size = ImageSize(width=self.width, height=self.height)
        return Workload(
            images=(size,) * self.images,
            prompt_tokens=self.prompt_tokens,
            output_tokens=output_tokens,
            batch=self.batch,
        )

    def output_tokens(self, role: str) -> int:
        """Answer length of ``small`` or ``large``."""
        return self.small_output if role == "small" else self.large_output


DEFAULTS = State()

Parser = Callable[[object, Catalogue], object]


@dataclass(frozen=True, slots=True)
class _Field:
    """How one value is read and written."""

    parse: Parser
    write: Callable[[object], str] = str


def _name(kind: str, known: Callable[[Catalogue], Sequence[str]]) -> _Field:
    def parse(value: object, catalogue: Catalogue) -> str:
        names = known(catalogue)
        if value not in names:
            raise UnknownKeyError(kind, str(value or "")[:_SHOWN], names)
        return str(value)

    return _Field(parse)


def _number(low: float, high: float, *, whole: bool = True, optional: bool = False) -> _Field:
    def parse(value: object, catalogue: Catalogue) -> float | None:
        if optional and value in (None, ""):
            return None
        kind = "a whole number" if whole else "a number"
        problem = InputError(f"got {_shown(value)}, expected {kind} from {low:g} to {high:g}")
        try:
            number = float(str(value))
        except ValueError:
            raise problem from None
        if not low <= number <= high or (whole and number != int(number)):
            raise problem
        return int(number) if whole else number

    return _Field(
        parse, lambda value: "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    )


def _names(kind: str, known: Callable[[Catalogue], Sequence[str]], most: int) -> _Field:
    one = _name(kind, known)

    def parse(value: object, catalogue: Catalogue) -> tuple[object, ...]:
        texts = [text for text in value.split(",") if text] if isinstance(value, str) else value or ()
        if not isinstance(texts, list | tuple):
            raise InputError(f"got {_shown(value)}, expected names")
        if len(texts) > most:
            raise InputError(f"got {len(texts)} of them, expected {most} or fewer")
        return tuple(dict.fromkeys(one.parse(text, catalogue) for text in texts))

    return _Field(parse, lambda value: ",".join(value) if isinstance(value, tuple) else "")


def _shown(value: object) -> str:
    return "nothing" if value in (None, "") else repr(value)[:_SHOWN]


FIELDS: Mapping[str, _Field] = {
    "small": _name("model", lambda c: c.model_names),
    "large": _name("model", lambda c: c.model_names),
    "hardware": _name("GPU", lambda c: c.hardware_keys),
    "devices": _names("GPU", lambda c: c.hardware_keys, 7),
    "engine": _name("engine", lambda c: c.engine_keys),
    "quantization": _name("quantisation", lambda c: ("none", *QUANTIZATIONS)),
    "tp": _number(1, 64),
    "width": _number(1, MAX_SIDE_PIXELS),
    "height": _number(1, MAX_SIDE_PIXELS),
    "images": _number(0, 64),
    "prompt_tokens": _number(0, 262144),
    "batch": _number(1, 1024),
    "large_output": _number(1, 65536),
    "small_output": _number(1, 65536),
    "view": _name("view", lambda c: tuple(VIEWS)),
    "role": _name("model", lambda c: ("small", "large")),
    "stage": _name("stage", lambda c: STAGES),
    "budget_s": _number(0.001, 3600, whole=False, optional=True),
    "percentile": _number(1, 99, whole=False),
}
"""One entry for each control of the page, in the order of :class:`State`."""


def parse_values(values: Mapping[str, object], catalogue: Catalogue) -> tuple[State, list[str]]:
    """State of the controls; what can't be used is told in words and replaced by its default."""
    found: dict[str, object] = {}
    problems = []
    for name, value in values.items():
        try:
            found[name] = FIELDS[name].parse(value, catalogue)
        except InputError as error:
            default = FIELDS[name].write(getattr(DEFAULTS, name)) or "nothing"
            problems.append(f"{_words(name)}: {error}. Using {default}.")
    return DEFAULTS.model_copy(update=found), problems


def parse_query(query: str, catalogue: Catalogue) -> tuple[State, list[str]]:
    """State of a URL's query; unknown and unusable parts are told in words."""
    text = query.removeprefix("?")
    if len(text) > _LONGEST_QUERY:
        return DEFAULTS, [f"The address has {len(text)} characters after the ?, expected {_LONGEST_QUERY} or fewer."]
    try:
        given = {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True, max_num_fields=64).items()}
    except ValueError:
        return DEFAULTS, ["The address holds too many values."]
    state, problems = parse_values({name: value for name, value in given.items() if name in FIELDS}, catalogue)
    unknown = [name for name in given if name not in FIELDS]
    if unknown:
        problems.append(f"The address has no meaning for {', '.join(repr(name)[:_SHOWN] for name in unknown[:3])}.")
    return state, problems


def to_query(state: State) -> str:
    """Query that brings the state back; what is at its default is left out."""
    values = {name: getattr(state, name) for name in FIELDS}
    changed = {name: value for name, value in values.items() if value != getattr(DEFAULTS, name)}
    return urlencode({name: FIELDS[name].write(value) for name, value in changed.items()}, safe="/,")


def _words(name: str) -> str:
    return {"tp": "Tensor parallelism", "images": "Number of images", "budget_s": "Latency budget"}.get(
        name, name.replace("_", " ").capitalize()
    )
