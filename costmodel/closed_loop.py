"""Steady state of a server that a fixed number of clients keep busy (equations 60 to 64).

Every client asks again as soon as its answer has ended, so that the number of requests in the system is fixed and
Little's law ties throughput to latency. Answers end at different moments: the phases of the requests are spread.
All results are weighted sums of the costs, so that errors which costs share stay shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from costmodel.estimate import Estimate, total

__all__ = ["Policy", "RequestCosts", "Residence", "Server", "Steady", "steady_state"]

Policy = Literal["serial", "prefill-first", "mixed"]

_MOST_ITERATIONS = 500
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class RequestCosts:
    """What requests cost, in seconds.

    Attributes
    ----------
    host, encode, prefill
        Of one request by itself.
    step
        Of a decode step with so many running requests, at the mean of their contexts.
    mixed
        Of a step that reads so many tokens of a prompt beside so many running requests.
    prompt_tokens, output_tokens
        New tokens of the prompt, and tokens of the answer.
    """

    host: Estimate
    encode: Estimate
    prefill: Estimate
    step: Callable[[int], Estimate]
    mixed: Callable[[float, int], Estimate]
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Server:
    """How an engine shares the device among requests.

    Attributes
    ----------
    policy
        ``serial``: one request after the other. ``prefill-first``: a new prompt is read at once, and running requests
        wait. ``mixed``: it is read in pieces, each in one pass with the running requests' next tokens.
    slots
        Requests that run together at most; others wait.
    chunk_tokens
        Tokens of all requests in one mixed pass.
    """

    policy: Policy
    slots: int
    chunk_tokens: int


@dataclass(frozen=True, slots=True)
class Residence:
    """Time of one request in the engine: until its first token, and from there to the last."""

    first: Estimate
    rest: Estimate

    @property
    def seconds(self) -> float:
        """The whole."""
        return float(self.first.value_s) + float(self.rest.value_s)


@dataclass(frozen=True, slots=True)
class Steady:
    """Mean times of one request at a fixed number of clients.

    Attributes
    ----------
    host
        Preprocessing, and waiting for it.
    in_engine
        Requests in the engine, as one of them finds it, itself included.
    host_share
        Share of the time that the host is busy.
    """

    host: Estimate
    engine: Residence
    in_engine: float
    host_share: float


def steady_state(costs: RequestCosts, server: Server, clients: int) -> Steady:
    """Solve for the times at which host, engine and clients agree.

    One request finds the others in the engine in proportion to the time they spend there (equation 63); on the host
    it waits for those before it (equation 64).
    """
    if server.policy == "serial":
        # One thread does everything: the host's part is a part of the service.
        return Steady(costs.host, _serial(costs, clients), float(clients), 1.0)
    own_s, host_s = float(costs.host.value_s), float(costs.host.value_s)
    found: dict[int, Residence] = {}

    def residence(number: int) -> Residence:
        if number not in found:
            found[number] = _in_engine(costs, server, number)
        return found[number]

    engine_s = residence(clients).seconds
    number = 1.0
    for _ in range(_MOST_ITERATIONS):
        cycle_s = host_s + engine_s
        number = _found(clients, engine_s / cycle_s, own_s / cycle_s)
        wanted_s = _between(residence, number).seconds
        waited_s = own_s * (1 + (clients - 1) * (host_s - own_s / 2) / cycle_s)
        # It can't let through more than one request in its own time.
        waited_s = max(waited_s, clients * own_s - engine_s)
        change = abs(waited_s - host_s) + abs(wanted_s - engine_s)
        host_s, engine_s = (host_s + waited_s) / 2, (engine_s + wanted_s) / 2
        if change <= _TOLERANCE * cycle_s:
            break
    host = costs.host.scaled(host_s / own_s) if own_s else costs.host
    return Steady(host, _between(residence, number), number, clients * own_s / (host_s + engine_s))


def _found(clients: int, in_engine: float, own_on_host: float) -> float:
    """Requests in the engine while one is, itself included (equation 63), from shares of the cycle.

    Others are there as often as itself, less what a busy host keeps apart: it lets one through after the other.
    """
    apart = min(clients * own_on_host, 1.0) * (1 - in_engine)
    return 1 + max((clients - 1) * in_engine - apart, 0.0)


def _between(residence: Callable[[int], Residence], number: float) -> Residence:
    """Linear between whole numbers of requests."""
    low = math.floor(number)
    part = number - low
    if part < _TOLERANCE:
        return residence(low)
    first, second = residence(low), residence(low + 1)
    return Residence(
        total((first.first.scaled(1 - part), second.first.scaled(part))),
        total((first.rest.scaled(1 - part), second.rest.scaled(part))),
    )


def _in_engine(costs: RequestCosts, server: Server, number: int) -> Residence:
    """Residence beside ``number - 1`` others; those beyond the slots wait for one (Little's law)."""
    share = _prefill_first if server.policy == "prefill-first" else _mixed
    if number <= server.slots:
        return share(costs, number, server, waits=number > 1)
    full = share(costs, server.slots, server, waits=False)
    queue = (number - server.slots) / server.slots
    waiting = total((full.first, full.rest)).scaled(queue)
    return Residence(total((waiting, full.first)), full.rest)


def _serial(costs: RequestCosts, number: int) -> Residence:
    """Others are served in full before (equation 60)."""
    first = total((costs.encode, costs.prefill))
    rest = costs.step(1).scaled(costs.output_tokens - 1)
    before = total((costs.host, first, rest)).scaled(number - 1)
    return Residence(total((before, first)), rest)


def _prefill_first(costs: RequestCosts, number: int, server: Server, *, waits: bool) -> Residence:
    """Each of the others reads one prompt during a request's life, and everyone waits for it (equation 61).

    Parameters
    ----------
    waits
        Whether a request comes just after a step has begun, and waits for its end: a client that asks again at once.
    """
    own = total((costs.encode, costs.prefill))
    steps = costs.output_tokens - 1
    if steps == 0:
        return Residence(own.scaled(number), own.scaled(0.0))
    waited = _share_that_waits(number, steps) if waits else 0.0
    passes = steps + waited
    step = _blend(costs.step, number * steps / passes)
    # Those that waited are read before it, and half of those that ended in the same step.
    before = (number - 1) * min((waited + 0.5) / passes, 1.0)
    first = total((own.scaled(1 + before), step.scaled(waited)))
    rest = total((own.scaled(number - 1 - before), step.scaled(steps)))
    return Residence(first, rest)


def _share_that_waits(number: int, steps: int) -> float:
    """Share of requests that find no prompt being read when they come, and so wait for the end of a decode step.

    A prompt is being read if one of the others waited: each did so in this very step with the share over the passes.
    """
    share = 1.0
    for _ in range(_MOST_ITERATIONS):
        wanted = (1 - share / (steps + share)) ** (number - 1)
        if abs(wanted - share) < _TOLERANCE:
            break
        share = (share + wanted) / 2
    return share


def _mixed(costs: RequestCosts, number: int, server: Server, *, waits: bool) -> Residence:
    """Prompts travel in pieces beside the running requests (equation 62)."""
    steps, prompt = costs.output_tokens - 1, costs.prompt_tokens
    if number == 1:
        return Residence(total((costs.encode, costs.prefill)), costs.step(1).scaled(steps))
    running = 0.0
    for _ in range(_MOST_ITERATIONS):
        budget = max(server.chunk_tokens - running, 1.0)
        pieces = math.ceil(prompt / budget)
        passes = float(waits + pieces + steps)
        # Passes that carry a piece: one for each, as long as there are enough; then pieces are put together.
        reading = min(number * pieces, max(passes, number * prompt / budget))
        passes = max(passes, reading)
        change, running = number * steps / passes - running, number * steps / passes
        if abs(change) < _TOLERANCE:
            break
    piece = number * costs.prompt_tokens / reading
    mixed = _blend(lambda count: costs.mixed(piece, count), running)
    plain = _blend(costs.step, running)
    own = reading / number
    # Of the passes that are not its own, a request decodes in so many and waits in the rest.
    decoding = steps / (passes - own)
    shared = 1.0 if 2 * costs.prompt_tokens <= budget else 0.5
    behind = min(shared * (number - 1) * own / passes, (number - 1) * decoding)
    rest = total(
        (
            mixed.scaled((reading - own) * decoding - behind * own),
            plain.scaled((passes - reading) * decoding + behind * own),
            costs.encode.scaled((number - 1) * decoding - behind),
        )
    )
    first = total(
        (
            mixed.scaled(own + (reading - own) * (1 - decoding) + behind * own),
            plain.scaled(max((passes - reading) * (1 - decoding) - behind * own, 0.0)),
            costs.encode.scaled(1 + (number - 1) * (1 - decoding) + behind),
        )
    )
    return Residence(first, rest)


def _blend(cost: Callable[[int], Estimate], number: float) -> Estimate:
    """Linear between whole numbers of requests; none costs as much as one."""
    low = max(math.floor(number), 1)
    part = max(number - low, 0.0)
    if part < _TOLERANCE:
        return cost(low)
    return total((cost(low).scaled(1 - part), cost(low + 1).scaled(part)))
