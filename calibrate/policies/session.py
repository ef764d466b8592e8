"""One run of a policy as a user asks for it: from addresses and files to engines, a journal, traces and a summary."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from calibrate.measure.journal import Journal
from calibrate.policies.engine import Pair, Side
from calibrate.policies.items import read_items, read_items_digest
from calibrate.policies.prompts import Prompts
from calibrate.policies.runner import finished_runs, run_plan, unfinished
from calibrate.policies.summary import PolicyRun, predicted_s, summarise
from costmodel import load_engine, load_hardware, load_model
from costmodel.documents import read_document
from costmodel.errors import InputError, PolicyError, UnknownKeyError
from costmodel.files import check_writable, existing_file
from costmodel.policy.agreement import matcher_named
from costmodel.policy.catalog import plan_named
from costmodel.policy.catalog.record import record
from costmodel.policy.plan import Plan, Role, Transfer
from costmodel.policy.run import Item
from costmodel.policy.serving import Served
from costmodel.policy.traces import write_traces
from costmodel.specs.model import ModelSpec

if TYPE_CHECKING:
    from calibrate.engines.dialects import Dialect
    from calibrate.policies.engine import Attend

__all__ = ["Session", "SideOptions", "plan_from", "prompts_from"]

_LOCAL = "local:"


@dataclass(frozen=True, slots=True)
class SideOptions:
    """Where one model answers, and what it is.

    Attributes
    ----------
    address
        Of a server, or ``local:FOLDER``.
    model
        As :func:`costmodel.load_model` takes it.
    served
        What the server calls it.
    """

    address: str
    model: str = ""
    served: str = ""

    @property
    def folder(self) -> Path | None:
        """Folder of a local model."""
        return Path(self.address.removeprefix(_LOCAL)) if self.address.startswith(_LOCAL) else None

    def spec(self) -> ModelSpec | None:
        """Architecture, where it is known."""
        name = self.model or (str(self.folder) if self.folder is not None else "")
        return load_model(name) if name else None


@dataclass(frozen=True)
class Session:
    """A run and everything that it needs; see ``costmodel run --help``."""

    plan: Plan
    small: SideOptions
    large: SideOptions
    items: Path
    out: Path
    prompts: Prompts
    matcher: str = "auto"
    concurrency: int = 1
    device: str = "auto"
    threads: int = 1
    dtype: str | None = None
    dialect: str = "auto"
    api_key_env: str = "OPENAI_API_KEY"
    hardware: str | None = None
    engine: str = "hf-eager"

    @property
    def journal_path(self) -> Path:
        """Beside the traces."""
        return self.out.with_name(f"{self.out.name}.journal")

    def run(self, progress: Callable[[float, str], None]) -> PolicyRun | None:
        """Ask what is missing, write the traces, summarise; nothing where no item was answered.

        Raises
        ------
        InputError
            If something given can't be used, or the journal is of another run.
        EndpointError
            If an engine is gone for good; the traces of finished items are written all the same.
        """
        matcher_named(self.matcher)
        items = read_items(self.items)
        specs: dict[Role, ModelSpec | None] = {"small": self.small.spec(), "large": self.large.spec()}
        served = self._served(specs)
        names = self._names(specs)
        if any(item.images for item in items) and None in specs.values():
            raise InputError("the items have images: name both models (--small-model, --large-model) to count tokens")
        check_writable(self.out)
        pair = self._pair(specs, names)
        with Journal(self.journal_path, self._environment(names)) as journal:
            try:
                asyncio.run(self._ask(items, pair, journal, progress))
            finally:
                runs = {each.item_id: each for each in finished_runs(journal)}
                ordered = [runs[item.item_id] for item in items if item.item_id in runs]
                if ordered:
                    write_traces(self.out, [trace for each in ordered for trace in each.traces])
            failed = dict(unfinished(journal))
        if not ordered:
            return None
        predicted = predicted_s(self.plan, ordered, served, dtype=self._dtype) if served else None
        return summarise(self.plan, ordered, failed, small=names["small"], large=names["large"], predicted=predicted)

    async def _ask(
        self, items: Sequence[Item], pair: Pair, journal: Journal, progress: Callable[[float, str], None]
    ) -> None:
        try:
            await run_plan(
                self.plan,
                items,
                pair,
                journal,
                matcher=self.matcher,
                concurrency=self.concurrency,
                progress=progress,
            )
        finally:
            await pair.close()

    @property
    def _dtype(self) -> str:
        return self.dtype or ("fp32" if self.device == "cpu" or self._on_cpu() else "bf16")

    def _on_cpu(self) -> bool:
        if self.small.folder is None and self.large.folder is None:
            return False
        from calibrate.measure.device import open_device

        return open_device(self.device, threads=self.threads).kind == "cpu"

    def _served(self, specs: dict[Role, ModelSpec | None]) -> dict[Role, Served] | None:
        if self.hardware is None:
            return None
        hardware, engine = load_hardware(self.hardware), load_engine(self.engine)
        found: dict[Role, Served] = {}
        for role, spec in specs.items():
            if spec is None:
                raise InputError(f"--hardware needs --{role}-model: what is predicted")
            found[role] = Served(spec, hardware, engine)
        return found

    def _names(self, specs: dict[Role, ModelSpec | None]) -> dict[Role, str]:
        names: dict[Role, str] = {}
        for role, options in (("small", self.small), ("large", self.large)):
            spec = specs[cast("Role", role)]
            names[cast("Role", role)] = spec.name if spec else options.served or options.address
        if names["small"] == names["large"]:
            raise InputError(f"both models are called {names['small']!r}: name them (--small-served, --large-served)")
        return names

    def _environment(self, names: dict[Role, str]) -> dict[str, str]:
        """What a resumed run must share with the one that died."""
        return {
            "plan": _digest(self.plan.model_dump_json()),
            "prompts": _digest(self.prompts.model_dump_json()),
            "items": read_items_digest(self.items),
            "matcher": self.matcher,
            # Not the address: a server that was started again may listen elsewhere.
            "small": names["small"],
            "large": names["large"],
        }

    def _pair(self, specs: dict[Role, ModelSpec | None], names: dict[Role, str]) -> Pair:
        executor = ThreadPoolExecutor(max_workers=1)
        sides: dict[Role, Side] = {}
        roles: tuple[tuple[Role, SideOptions], ...] = (("small", self.small), ("large", self.large))
        for role, options in roles:
            sides[role] = self._side(options, specs[role], names[role], executor, attended=role in self._attended())
        return Pair(sides, self.prompts)

    def _attended(self) -> set[Role]:
        """Models whose attention a selector of the plan reads."""
        steps = self.plan.steps
        transfers = [step for step in steps if isinstance(step, Transfer) and step.selector == "attention"]
        return {ask.model for ask in self.plan.asks for step in transfers if step.source == ask.name}

    def _side(
        self,
        options: SideOptions,
        spec: ModelSpec | None,
        name: str,
        executor: ThreadPoolExecutor,
        *,
        attended: bool,
    ) -> Side:
        if options.folder is None:
            if attended:
                raise PolicyError("selector 'attention' needs the weights of the model: expected local:FOLDER")
            from calibrate.engines.openai_endpoint import Endpoint, OpenAIEndpoint

            endpoint = Endpoint(
                options.address, options.served, dialect=_dialect(self.dialect), api_key_env=self.api_key_env
            )
            return Side(OpenAIEndpoint(endpoint), name, spec)
        from calibrate.engines.checkpoint import Checkpoint
        from calibrate.measure.device import open_device

        device = open_device(self.device, threads=self.threads)
        checkpoint = Checkpoint(options.folder, device, dtype=self._dtype, executor=executor)
        return Side(checkpoint, name, spec, attend=_attend(checkpoint) if attended else None)


def _attend(checkpoint: object) -> Attend:
    import functools

    from calibrate.engines.checkpoint import Checkpoint
    from calibrate.policies.attention import attention_to_tokens

    if not isinstance(checkpoint, Checkpoint):
        raise PolicyError("attention is read from local models only")
    return functools.partial(attention_to_tokens, checkpoint)


def plan_from(text: str, *, transfers: Sequence[str] = (), samples: int = 1) -> Plan:
    """The plan that a user names: of the catalogue, of a file, or ``record``.

    Raises
    ------
    InputError
        If there is none, or a transfer is not written as SELECTOR:SHARE.
    """
    path = existing_file(Path(text))
    if text == "record":
        return record(transfers=[_transfer(each) for each in transfers] or [("all", 1.0)], samples=samples)
    if transfers or samples != 1:
        raise InputError("--transfer and --samples belong to --policy record; a plan says its own")
    return read_document(path, Plan) if path else plan_named(text)


def _transfer(text: str) -> tuple[str, float]:
    name, _, share = text.partition(":")
    try:
        return name, float(share or "1")
    except ValueError:
        raise InputError(f"--transfer is {text!r}, expected SELECTOR:SHARE, for example last:0.5") from None


def prompts_from(path: Path | None) -> Prompts:
    """Templates of a file, or the common ones."""
    return Prompts() if path is None else read_document(path, Prompts)


def _dialect(text: str) -> Dialect:
    from calibrate.engines.dialects import DIALECTS

    if text not in DIALECTS:
        raise UnknownKeyError("dialect", text, DIALECTS)
    return cast("Dialect", text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
