"""A server under load, event by event: an oracle for the steady state. Nothing of the toolkit is used."""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean

__all__ = ["Simulated", "World", "simulate"]


@dataclass(frozen=True)
class World:
    """Costs in seconds, linear in everything."""

    host_s: float
    encode_s: float
    prompt_tokens: int
    output_tokens: int
    pass_s: float = 0.005
    row_s: float = 4e-4
    context_s: float = 1e-6
    token_s: float = 2e-4
    cached_s: float = 1e-8

    def step_s(self, contexts: list[float]) -> float:
        return self.pass_s + self.row_s * len(contexts) + self.context_s * sum(contexts)

    def mixed_s(self, tokens: float, cached: float, contexts: list[float]) -> float:
        return self.step_s(contexts) + tokens * (self.token_s + self.cached_s * cached)

    def prefill_s(self, chunk: int) -> float:
        starts = range(0, self.prompt_tokens, chunk)
        return sum(self.mixed_s(min(chunk, self.prompt_tokens - start), start, []) for start in starts)


@dataclass(frozen=True)
class Simulated:
    ttft_s: float
    total_s: float
    requests_per_s: float


@dataclass
class _Request:
    sent_s: float
    tokens: int
    read: int = 0
    got: int = 0
    first_s: float = 0.0


@dataclass
class _Engine:
    world: World
    policy: str
    slots: int
    chunk: int
    rng: random.Random
    now_s: float = 0.0
    host_free_s: float = 0.0
    coming: list[tuple[float, int, _Request]] = field(default_factory=list)
    waiting: deque[_Request] = field(default_factory=deque)
    reading: list[_Request] = field(default_factory=list)
    running: list[_Request] = field(default_factory=list)
    done: list[tuple[float, float]] = field(default_factory=list)
    sent: int = 0

    def send(self) -> None:
        """A client asks: answers of half to one and a half times the mean length, so that phases spread."""
        mean = self.world.output_tokens
        tokens = self.rng.randint(max(1, mean // 2), 2 * mean - max(1, mean // 2))
        self.host_free_s = max(self.now_s, self.host_free_s) + self.world.host_s
        self.sent += 1
        # A moment later: the engine has begun its next pass by then.
        heapq.heappush(self.coming, (self.host_free_s + 1e-9, self.sent, _Request(self.now_s, tokens)))

    def arrive(self) -> None:
        while self.coming and self.coming[0][0] <= self.now_s:
            self.waiting.append(heapq.heappop(self.coming)[2])

    def advance(self) -> None:
        self.arrive()
        if not (self.waiting or self.reading or self.running):
            self.now_s = self.coming[0][0]
        elif self.policy == "prefill-first":
            self.prefill_or_step()
        else:
            self.mixed_pass()

    def prefill_or_step(self) -> None:
        if self.waiting and len(self.running) < self.slots:
            request = self.waiting.popleft()
            self.now_s += self.world.encode_s + self.world.prefill_s(self.world.prompt_tokens)
            self.begin(request)
            return
        self.now_s += self.world.step_s(self.contexts())
        self.write(list(self.running))

    def mixed_pass(self) -> None:
        while self.waiting and len(self.running) + len(self.reading) < self.slots:
            self.reading.append(self.waiting.popleft())
        budget, tokens, cached, time_s = self.chunk - len(self.running), 0, 0, 0.0
        for request in self.reading:
            take = min(budget, self.world.prompt_tokens - request.read)
            if take > 0:
                time_s += self.world.encode_s if request.read == 0 else 0.0
                cached = request.read
                request.read, tokens, budget = request.read + take, tokens + take, budget - take
        contexts = self.contexts()
        self.now_s += time_s + (self.world.mixed_s(tokens, cached, contexts) if tokens else self.world.step_s(contexts))
        writing = list(self.running)
        ready = [request for request in self.reading if request.read == self.world.prompt_tokens]
        self.reading = [request for request in self.reading if request not in ready]
        self.write(writing)
        for request in ready:
            self.begin(request)

    def contexts(self) -> list[float]:
        return [float(self.world.prompt_tokens + request.got) for request in self.running]

    def begin(self, request: _Request) -> None:
        request.first_s, request.got = self.now_s, 1
        self.running.append(request)
        self.end([request])

    def write(self, requests: list[_Request]) -> None:
        for request in requests:
            request.got += 1
        self.end(requests)

    def end(self, requests: list[_Request]) -> None:
        for request in [each for each in requests if each.got >= each.tokens]:
            self.running.remove(request)
            self.done.append((request.first_s - request.sent_s, self.now_s - request.sent_s))
            self.send()


def simulate(
    world: World, *, policy: str, slots: int, chunk: int, clients: int, requests: int = 1500, seed: int = 0
) -> Simulated:
    """Means over requests after the first fifth."""
    engine = _Engine(world, policy, slots, chunk, random.Random(seed))
    for _ in range(clients):
        engine.send()
    while len(engine.done) < requests // 5:
        engine.advance()
    start_s, before = engine.now_s, len(engine.done)
    while len(engine.done) < requests:
        engine.advance()
    counted = engine.done[before:]
    return Simulated(
        fmean(ttft_s for ttft_s, _ in counted),
        fmean(total_s for _, total_s in counted),
        len(counted) / (engine.now_s - start_s),
    )
