"""Whether two answers say the same: option letters, booleans, numbers with units, short phrases.

A matcher turns an answer into a key, and says whether two keys are the same. An answer without a key (empty, or not of
the matcher's kind) agrees with nothing, itself included: a failed answer verifies nobody.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from costmodel.errors import PolicyError, UnknownKeyError
from costmodel.policy.levenshtein import similarity
from costmodel.units import KILO, MILLI, SECONDS_PER_HOUR

__all__ = [
    "Matcher",
    "agree",
    "anls",
    "boolean_key",
    "final_answer",
    "letter_key",
    "matcher_named",
    "matcher_names",
    "number_key",
    "phrase_key",
    "register",
]

_LOWEST_SIMILARITY = 0.8
_ANLS_THRESHOLD = 0.5
_TOLERANCE = 1 / 1024

_THINKING = re.compile(r"<think>.*?</think>|^.*?</think>", re.DOTALL | re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_LEAD_IN = re.compile(
    r"^(?:.*\b)?(?:(?:the )?(?:final |best |correct )?(?:answer|option|choice)(?: is)?)\s*[:=]?\s+(?=\S)|^####\s*",
    re.IGNORECASE | re.DOTALL,
)
_LETTER = re.compile(r"^[\(\[]?([A-Za-z])[\)\].:,]*$|^[\(\[]?([A-Z])[\)\].:](?:\s|$)|^[\(\[]([A-Za-z])[\)\]]")
_TRUE, _FALSE = {"yes", "true", "correct"}, {"no", "false", "incorrect"}
_NUMBER = re.compile(
    r"^[^\w.+-]{0,3}([+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[+-]?\.\d+)(?:e([+-]?\d{1,2}))?"
    r"(?:\s*/\s*(\d+(?:\.\d+)?))?\s*(%|[a-zµ°²³]*)\.?$",
    re.IGNORECASE,
)
_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")

# Unit → quantity and factor to its base; compared only within one quantity.
_UNITS = {
    "mm": ("length", MILLI),
    "cm": ("length", 0.01),
    "m": ("length", 1.0),
    "km": ("length", KILO),
    "mg": ("mass", MILLI),
    "g": ("mass", 1.0),
    "kg": ("mass", KILO),
    "ms": ("time", MILLI),
    "s": ("time", 1.0),
    "min": ("time", 60.0),
    "h": ("time", SECONDS_PER_HOUR),
    "%": ("share", 0.01),
}
_LONG_UNITS = {
    "percent": "%",
    "second": "s",
    "sec": "s",
    "minute": "min",
    "hour": "h",
    "meter": "m",
    "metre": "m",
    "centimeter": "cm",
    "centimetre": "cm",
    "kilometer": "km",
    "kilometre": "km",
    "gram": "g",
    "kilogram": "kg",
}

Key = Hashable
NumberKey = tuple[float, str, float]


@dataclass(frozen=True, slots=True)
class Matcher:
    """A rule of equality.

    Attributes
    ----------
    key
        Canonical form of an answer; ``None`` where the answer is not of this kind.
    same
        Whether two keys that differ still mean the same.
    by_key
        Whether keys alone decide, so that ``same`` never has to be asked.
    """

    key: Callable[[str], Key | None]
    same: Callable[[Key, Key], bool]
    by_key: bool


def agree(first: str, second: str, *, matcher: str = "auto") -> bool:
    """Whether two answers say the same.

    Examples
    --------
    >>> agree("The answer is (B).", "b"), agree("50 %", "0.5"), agree("cat", "dog")
    (True, True, False)
    """
    rule = matcher_named(matcher)
    a, b = rule.key(first), rule.key(second)
    return a is not None and b is not None and (a == b or (not rule.by_key and rule.same(a, b)))


def final_answer(text: str) -> str:
    """The answer itself: what follows the reasoning, inside a box, or after "the answer is".

    Examples
    --------
    >>> final_answer("<think>2 + 2</think> The answer is 4")
    '4'
    """
    text = _THINKING.sub("", unicodedata.normalize("NFKC", text)).strip()
    boxed = _BOXED.findall(text)
    if boxed:
        text = boxed[-1]
    text = text.replace("**", "").replace("$", "").strip().strip("`'\"").strip()
    return _LEAD_IN.sub("", text, count=1).strip()


def letter_key(text: str) -> str | None:
    """Letter of a multiple-choice option, in upper case; an article at the start of a sentence is none.

    Examples
    --------
    >>> letter_key("(c)"), letter_key("B. a cat"), letter_key("A cat")
    ('C', 'B', None)
    """
    match = _LETTER.match(final_answer(text))
    return next(group for group in match.groups() if group).upper() if match else None


def boolean_key(text: str) -> bool | None:
    """Yes or no: the whole answer, or the word before its first punctuation mark.

    Examples
    --------
    >>> boolean_key("Yes, two of them."), boolean_key("no dogs")
    (True, None)
    """
    word = re.match(r"([a-z]+)(?:[,.;:!]|$)", final_answer(text).lower())
    if word is None or word[1] not in _TRUE | _FALSE:
        return None
    return word[1] in _TRUE


def number_key(text: str) -> NumberKey | None:
    """Value in the base unit, quantity, and value as written; digits, fractions, percent, small number words.

    Examples
    --------
    >>> number_key("1,250 mm"), number_key("three")
    ((1.25, 'length', 1250.0), (3.0, '', 3.0))
    """
    words = final_answer(text).rstrip(".").lower()
    if words in _WORDS:
        value = float(_WORDS.index(words))
        return value, "", value
    match = _NUMBER.match(words)
    if match is None or (match[3] is not None and float(match[3]) == 0):
        return None
    value = float(match[1].replace(",", "")) * 10.0 ** int(match[2] or 0) / float(match[3] or 1)
    unit = match[4]
    unit = _LONG_UNITS.get(unit.removesuffix("s"), _LONG_UNITS.get(unit, unit))
    quantity, factor = _UNITS.get(unit, (unit, 1.0))
    return value * factor, quantity, value


def phrase_key(text: str) -> str | None:
    """Words in lower case, without punctuation and articles."""
    words = re.sub(r"[^\w\s]", " ", final_answer(text).casefold())
    words = " ".join(_ARTICLES.sub(" ", words).split())
    return words or None


def anls(answer: str, references: list[str], *, threshold: float = _ANLS_THRESHOLD) -> float:
    """Normalised Levenshtein similarity of an answer to the nearest reference (equation 84).

    The measure of ST-VQA (arXiv 1905.13648) and DocVQA (arXiv 2007.00398): with the normalised distance
    NL = distance / longer length, the score is 1 - NL where NL < ``threshold``, else 0. Case and outer blanks are
    ignored. ANLS of a data set is the mean over its questions.

    Examples
    --------
    >>> anls("Talking Heads", ["TALKING HEADS"]), anls("tvlkinghevds", ["talkingheads"])
    (1.0, 0.8333333333333334)
    """
    if not references:
        raise PolicyError("ANLS needs at least one reference answer, got none")
    text = " ".join(answer.lower().split())
    best = max(similarity(text, " ".join(reference.lower().split())) for reference in references)
    return best if 1 - best < threshold else 0.0


def _numbers_match(tolerance: float) -> Callable[[Key, Key], bool]:
    def same(first: Key, second: Key) -> bool:
        if not isinstance(first, tuple) or not isinstance(second, tuple):
            return False
        (a, unit_a, raw_a), (b, unit_b, raw_b) = first, second
        if unit_a == unit_b:
            return _near(a, b, tolerance)
        # A unit that one of the two left out; a share may be written as a fraction too.
        if "" not in (unit_a, unit_b):
            return False
        return _near(raw_a, raw_b, tolerance) or ("share" in (unit_a, unit_b) and _near(a, b, tolerance))

    return same


def _near(a: float, b: float, tolerance: float) -> bool:
    return abs(a - b) <= tolerance * max(abs(a), abs(b))


def _phrases_match(first: Key, second: Key) -> bool:
    return similarity(str(first), str(second), lowest=_LOWEST_SIMILARITY) >= _LOWEST_SIMILARITY


def _never(first: Key, second: Key) -> bool:
    return False


def _auto_key(text: str) -> Key | None:
    """Kind and key: the first kind that can read the answer."""
    for kind, key in (("letter", letter_key), ("boolean", boolean_key), ("number", number_key)):
        found = key(text)
        if found is not None:
            return kind, found
    phrase = phrase_key(text)
    return None if phrase is None else ("phrase", phrase)


def _auto_same(first: Key, second: Key) -> bool:
    if not isinstance(first, tuple) or not isinstance(second, tuple) or first[0] != second[0]:
        return False
    rules = {"number": _numbers_match(_TOLERANCE), "phrase": _phrases_match}
    return rules.get(str(first[0]), _never)(first[1], second[1])


_MATCHERS: dict[str, Matcher] = {
    "auto": Matcher(_auto_key, _auto_same, by_key=False),
    "letter": Matcher(letter_key, _never, by_key=True),
    "boolean": Matcher(boolean_key, _never, by_key=True),
    "number": Matcher(number_key, _numbers_match(_TOLERANCE), by_key=False),
    # The tolerance of ChartQA's relaxed accuracy (arXiv 2203.10244, section 5).
    "number-5%": Matcher(number_key, _numbers_match(0.05), by_key=False),
    "phrase": Matcher(phrase_key, _phrases_match, by_key=False),
    "exact": Matcher(phrase_key, _never, by_key=True),
}


def matcher_names() -> tuple[str, ...]:
    """Names of every matcher."""
    return tuple(sorted(_MATCHERS))


def matcher_named(name: str) -> Matcher:
    """Look a matcher up.

    Raises
    ------
    UnknownKeyError
        If there is none of this name.
    """
    if name not in _MATCHERS:
        raise UnknownKeyError("matcher", name, _MATCHERS)
    return _MATCHERS[name]


def register(name: str, matcher: Matcher) -> None:
    """Add a matcher, for answers of a kind that is not covered here.

    Raises
    ------
    PolicyError
        If the name is taken.
    """
    if name in _MATCHERS:
        raise PolicyError(f"matcher {name!r} exists already; choose another name")
    _MATCHERS[name] = matcher
