"""A policy is data: a short list of steps, each of which asks a model, hands reasoning on, or may stop.

Steps run in order. A gate (:class:`Agree`, :class:`Confident`, :class:`Finished`) ends the plan with an answer where
its condition holds; an item that passes no gate takes the answer of the last step. The route of an item is the name of
the gate that stopped it, or of the last step. Mutual verification with reasoning transfer, the plan that the steps were
made for, is that of arXiv 2604.04929, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from costmodel.errors import PolicyError
from costmodel.specs.base import Count, Flag, Frozen, Size

__all__ = [
    "Agree",
    "Ask",
    "Confident",
    "Finished",
    "Gate",
    "Mode",
    "Plan",
    "Role",
    "Step",
    "Transfer",
    "Vote",
    "groups",
]

Role = Literal["small", "large"]
"""Which of the two models."""

Mode = Literal["short", "reason", "transfer"]
"""How it is asked: to answer at once, to reason first, or to answer at once from another model's reasoning."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,47}$")]
Share = Annotated[float, Field(gt=0, le=1)]


class Ask(Frozen):
    """Ask a model once.

    Attributes
    ----------
    sample
        Which of several independent answers to the same request.
    context
        Name of the :class:`Transfer` whose text joins the prompt.
    max_output_tokens
        Where generation is cut off; ``None``: the model stops by itself.
    parallel
        Whether it starts together with the ask before it.
    """

    kind: Literal["ask"] = "ask"
    name: Name
    model: Role
    mode: Mode
    sample: Count = 0
    context: Name | None = None
    max_output_tokens: Size | None = None
    parallel: Flag = False


class Transfer(Frozen):
    """Choose what of a reasoning is handed on, see :mod:`costmodel.policy.selectors`."""

    kind: Literal["transfer"] = "transfer"
    name: Name
    source: Name
    selector: str = "all"
    keep_fraction: Share = 1.0


class Agree(Frozen):
    """Stop where two answers are equal; the answer is that of ``answer``."""

    kind: Literal["agree"] = "agree"
    name: Name
    first: Name
    second: Name
    answer: Name


class Confident(Frozen):
    """Stop where the model was sure: the mean probability of its answer's tokens is at least ``threshold``."""

    kind: Literal["confident"] = "confident"
    name: Name
    source: Name
    threshold: Share


class Finished(Frozen):
    """Stop where a capped answer came to its end by itself."""

    kind: Literal["finished"] = "finished"
    name: Name
    source: Name


class Vote(Frozen):
    """Take the answer that most of several asks agree on; of equally many, the one given first."""

    kind: Literal["vote"] = "vote"
    name: Name
    among: tuple[Name, ...] = Field(min_length=2)


Step = Annotated[Ask | Transfer | Agree | Confident | Finished | Vote, Field(discriminator="kind")]
Gate = Agree | Confident | Finished


class Plan(Frozen):
    """A policy.

    Attributes
    ----------
    answer_agreement
        Name of the matcher that says whether two answers are equal, see :mod:`costmodel.policy.agreement`.
    """

    schema_version: Literal[1] = 1
    name: Name
    summary: str
    steps: tuple[Step, ...] = Field(min_length=1)
    answer_agreement: str = "auto"

    @model_validator(mode="after")
    def _steps_follow(self) -> Plan:
        seen: dict[str, Step] = {}
        for step in self.steps:
            if step.name in seen:
                raise PolicyError(f"plan {self.name}: two steps are named {step.name!r}")
            for role, name in _references(step):
                self._check_reference(step, role, seen.get(name), name)
            seen[step.name] = step
        last = self.steps[-1]
        if not isinstance(last, Ask | Vote):
            raise PolicyError(f"plan {self.name}: the last step is {last.name!r}, expected one that answers")
        if isinstance(self.steps[0], Ask) and self.steps[0].parallel:
            raise PolicyError(f"plan {self.name}: the first step has nothing to run in parallel with")
        return self

    def _check_reference(self, step: Step, role: str, found: Step | None, name: str) -> None:
        wanted = Transfer if role == "context" else Ask
        if not isinstance(found, wanted):
            raise PolicyError(
                f"plan {self.name}: step {step.name!r} refers to {name!r}, expected an earlier {wanted.__name__}"
            )
        if role == "reasoning" and isinstance(found, Ask) and found.mode != "reason":
            raise PolicyError(f"plan {self.name}: {step.name!r} hands on reasoning of {name!r}, which does not reason")
        if role == "capped" and isinstance(found, Ask) and found.max_output_tokens is None:
            raise PolicyError(f"plan {self.name}: {step.name!r} asks whether {name!r} finished, which has no cap")

    @property
    def asks(self) -> tuple[Ask, ...]:
        """Every step that asks a model."""
        return tuple(step for step in self.steps if isinstance(step, Ask))

    @property
    def routes(self) -> tuple[str, ...]:
        """Names of the ways through the plan, in the order of their ends."""
        return tuple(step.name for step in self.steps if isinstance(step, Gate) or step is self.steps[-1])

    def step(self, name: str) -> Step:
        """The step of this name.

        Raises
        ------
        PolicyError
            If there is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise PolicyError(f"plan {self.name}: no step is named {name!r}")

    def transfer_of(self, ask: Ask) -> Transfer | None:
        """What an ask is handed, where it is handed something."""
        step = self.step(ask.context) if ask.context is not None else None
        return step if isinstance(step, Transfer) else None


def groups(plan: Plan) -> Iterator[tuple[Step, ...]]:
    """Steps in order; asks that start together come as one group."""
    waiting: list[Step] = []
    for step in plan.steps:
        joins = isinstance(step, Ask) and step.parallel and waiting and isinstance(waiting[-1], Ask)
        if waiting and not joins:
            yield tuple(waiting)
            waiting = []
        waiting.append(step)
    yield tuple(waiting)


def _references(step: Step) -> Iterator[tuple[str, str]]:
    """What a step needs of earlier ones: what for, and the name."""
    if isinstance(step, Ask) and step.mode == "transfer" and step.context is None:
        raise PolicyError(f"step {step.name!r} is asked in transfer mode, but nothing is handed to it")
    if isinstance(step, Ask) and step.context is not None:
        yield "context", step.context
    if isinstance(step, Transfer):
        yield "reasoning", step.source
    if isinstance(step, Agree):
        yield from (("answer", name) for name in (step.first, step.second, step.answer))
    if isinstance(step, Confident):
        yield "answer", step.source
    if isinstance(step, Finished):
        yield "capped", step.source
    if isinstance(step, Vote):
        yield from (("answer", name) for name in step.among)
