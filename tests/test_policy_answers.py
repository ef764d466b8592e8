"""When two answers say the same, and what of a reasoning is handed on: against tables made by hand."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import PolicyError, UnknownKeyError
from costmodel.policy import agreement, levenshtein, selectors
from costmodel.policy.agreement import Matcher, agree, anls, boolean_key, final_answer, letter_key, number_key
from costmodel.policy.selectors import select, split_tokens

TOKENS = ("It", " is", " red.", " So", " B", " follows.", " Surely", " it", " does.")
ATTENTION = (0.0, 0.0, 0.2, 0.0, 0.3, 0.0, 0.0, 0.1, 0.4)
LOGPROBS = (-0.1, -0.1, -0.1, -2.0, -3.0, -1.0, -0.5, -0.5, -0.5)


@pytest.mark.parametrize("module", [agreement, levenshtein, selectors], ids=lambda m: m.__name__)
def test_examples_in_the_documentation(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("b)", "B"),
        ("B.", "B"),
        ("B. two cats", "B"),
        ("[C]", "C"),
        ("**D**", "D"),
        ("$\\boxed{C}$", "C"),
        ("The answer is (B).", "B"),
        ("Final answer: B", "B"),
        ("Option C", "C"),
        ("<think>A or B? A.</think>B", "B"),
        ("so it must be A</think>\nD", "D"),
        ("A cat", None),
        ("I am sure", None),
        ("12", None),
        ("", None),
        ("AB", None),
    ],
)
def test_option_letters(text: str, letter: str | None) -> None:
    assert letter_key(text) == letter


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("No.", False),
        ("TRUE", True),
        ("Yes, a dog", True),
        ("no dogs", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_booleans(text: str, value: bool | None) -> None:
    assert boolean_key(text) is value


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("3", "3.0", True),
        ("1,234", "1234", True),
        ("12 cm", "120 mm", True),
        ("12 cm", "12", True),
        ("12 cm", "12 kg", False),
        ("1.5 hours", "90 min", True),
        ("50%", "0.5", True),
        ("50 %", "50", True),
        ("1/4", "0.25", True),
        ("-2e3", "-2000", True),
        ("three", "3", True),
        ("$15", "15", True),
        ("100", "101", False),
        ("0", "0.0", True),
        ("0", "0.001", False),
        ("12 apples", "12 pears", False),
        ("1/0", "1/0", False),
    ],
)
def test_numbers_with_units(first: str, second: str, same: bool) -> None:
    assert agree(first, second, matcher="number") is same
    assert agree(second, first, matcher="number") is same


def test_the_tolerance_of_charts_is_five_percent() -> None:
    assert agree("100", "104", matcher="number-5%")
    assert not agree("100", "106", matcher="number-5%")
    assert number_key("not a number") is None


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("The answer is B", "b)", True),
        ("yes", "Yes, it is.", True),
        ("the red car", "Red car.", True),
        ("Rembrandt van Rijn", "Rembrant van Rijn", True),
        ("left", "right", False),
        ("A", "yes", False),
        ("B", "two cats", False),
        ("", "", False),
        ("  ", "B", False),
        ("3", "three", True),
    ],
)
def test_the_kind_is_found_by_itself(first: str, second: str, same: bool) -> None:
    assert agree(first, second) is same


# Distances by hand; the score is 1 - distance / longer length where that share is below one half, else 0.
@pytest.mark.parametrize(
    ("answer", "references", "score"),
    [
        ("itc limited", ["ITC Limited"], 1.0),
        ("talkingheads", ["TALKINGHEADS", "TALKING HEADS"], 1.0),
        ("tvlkinghevds", ["talkingheads"], 1 - 2 / 12),
        ("abcd", ["abxy"], 0.0),
        ("abcd", ["abcy"], 0.75),
        ("abcde", ["abxyz", "abcxy"], 0.6),
        ("remain in light", ["talking heads"], 0.0),
        ("", ["x"], 0.0),
    ],
)
def test_anls_is_the_published_measure(answer: str, references: list[str], score: float) -> None:
    assert anls(answer, references) == pytest.approx(score)


@given(st.text("abc ", max_size=8), st.text("abc ", max_size=8), st.text("abc ", max_size=8))
def test_edit_distance_is_a_metric(a: str, b: str, c: str) -> None:
    d = levenshtein.distance
    assert d(a, b) == d(b, a)
    assert (d(a, b) == 0) == (a == b)
    assert abs(len(a) - len(b)) <= d(a, b) <= max(len(a), len(b))
    assert d(a, c) <= d(a, b) + d(b, c)


@given(st.text(max_size=60))
def test_any_text_is_read_without_failing(text: str) -> None:
    final_answer(text)
    for name in agreement.matcher_names():
        assert agree(text, text, matcher=name) in (True, False)


def test_a_matcher_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "_MATCHERS", dict(agreement._MATCHERS))
    agreement.register("first-word", Matcher(lambda text: text.split()[0], lambda a, b: False, by_key=True))
    assert agree("red car", "red bus", matcher="first-word")
    with pytest.raises(PolicyError, match="'first-word' exists already"):
        agreement.register("first-word", agreement.matcher_named("exact"))
    with pytest.raises(UnknownKeyError, match="unknown matcher 'first'; nearest: first-word"):
        agree("a", "b", matcher="first")
    with pytest.raises(PolicyError, match="at least one reference"):
        anls("a", [])


@pytest.mark.parametrize(
    ("selector", "keep", "text"),
    [
        ("all", 0.1, "It is red. So B follows. Surely it does."),
        ("last", 1 / 3, " Surely it does."),
        ("last", 0.01, " does."),
        ("head-and-tail", 4 / 9, "It is it does."),
        ("head-and-tail", 1 / 9, " does."),
        ("information", 1 / 3, " So B follows."),
        ("information", 6 / 9, " So B follows. Surely it does."),
        ("information", 4 / 9, " So B follows. Surely"),
        ("information", 1.0, "It is red. So B follows. Surely it does."),
        ("attention", 1 / 3, " red. B does."),
        ("attention", 4 / 9, " red. B it does."),
    ],
)
def test_selectors_by_hand(selector: str, keep: float, text: str) -> None:
    assert select(TOKENS, selector, keep, logprobs=LOGPROBS, attention=ATTENTION).text == text


@given(st.lists(st.sampled_from(["a", " b.", " c", "\n"]), max_size=30), st.floats(0.01, 1))
def test_a_selector_keeps_its_share(tokens: list[str], keep: float) -> None:
    for name in selectors.selector_names():
        found = select(tokens, name, keep, logprobs=[-1.0] * len(tokens), attention=[0.1] * len(tokens))
        assert list(found.kept) == sorted(set(found.kept))
        assert found.tokens == len(tokens)
        if name != "all":
            assert abs(len(found.kept) - keep * len(tokens)) < 1
        assert found.text == "".join(tokens[i] for i in found.kept)


def test_selectors_refuse_what_they_cannot_do() -> None:
    with pytest.raises(PolicyError, match="needs the log-probabilities"):
        select(TOKENS, "information", 0.5)
    with pytest.raises(PolicyError, match="'attention' needs the weights of the model"):
        select(TOKENS, "attention", 0.5, logprobs=LOGPROBS)
    with pytest.raises(PolicyError, match="2 attention weights for 9 tokens"):
        select(TOKENS, "attention", 0.5, attention=(0.5, 0.5))
    with pytest.raises(PolicyError, match="3 log-probabilities for 9 tokens"):
        select(TOKENS, "last", 0.5, logprobs=(-1.0,) * 3)
    with pytest.raises(PolicyError, match="keep_fraction is 0, expected more than 0"):
        select(TOKENS, "last", 0)
    with pytest.raises(UnknownKeyError, match="unknown selector 'first'"):
        select(TOKENS, "first", 0.5)
    with pytest.raises(PolicyError, match="'last' exists already"):
        selectors.register("last", selectors._last)
    assert "".join(split_tokens("one two\n three")) == "one two\n three"
