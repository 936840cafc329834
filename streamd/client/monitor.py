"""TrainingMonitor: a training job's telemetry out, and the commands that it opted in to, in one call a step."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from streamd.client.arguments import check_stream
from streamd.client.commands import NAMES, Gate, Handler
from streamd.client.courier import Sink
from streamd.client.listener import Listener, Reader, kafka_connector
from streamd.client.orders import Orders
from streamd.client.outbox import Stats
from streamd.client.ranks import Alone, Ranks
from streamd.client.summaries import Summaries, Tensors, numbers
from streamd.client.system import SystemWatch
from streamd.client.telemetry import TelemetryProducer
from streamd.codec.encode import Ending, Outcome
from streamd.model import Command

if TYPE_CHECKING:
    from streamd.client.training.equipment import Equipment, Hooks
    from streamd.client.training.points import Point

log = logging.getLogger("streamd.client")

T = TypeVar("T")

_CLOSE_SECONDS = 2.0  # a job that ends waits so long for what is still queued
_PENDING_MAX = 256  # steps whose numbers are still on the device; it is never so far behind


class TrainingMonitor:
    """Sends a training run's telemetry to the daemon and obeys the commands that it is allowed to.

    Nothing here raises into the training loop or makes it wait; without a broker the training runs as if this were
    not there, and the logger `streamd.client` says so once. The exceptions are commands: `pause` waits because it
    is told to, `checkpoint` and `rollback` take the time that they take. Under torch.distributed every rank makes a
    monitor and calls `step`; rank 0 speaks, and a command is obeyed by all ranks at the same step.

    Args:
        run: the run's name.
        model: a torch module: gradients are measured by hooks, checkpoints hold it.
        optimizer, scheduler: of torch; `scheduler` may be a sequence. For learning rate, update ratios, checkpoints.
        bootstrap_servers: `host:port`; else the variable STREAMD_KAFKA__BOOTSTRAP_SERVERS, else localhost:9092.
        allow: the commands that may be obeyed, by name; all others are refused.
        handlers: a function a command, in place of the built-in one or beside them: it gets the Command, and returns
            a sentence or raises `Refused`.
        automatic: obey commands within `step`. False: the job takes them from `commands()`.
        state: other things with a state_dict that checkpoints should hold, by name: {"ema": ema}.
        checkpoints: the folder of the checkpoints.
        checkpoint_every: save one every so many steps, to have one to go back to. None: on command only.
        keep_checkpoints: how many stay.
        parameters: patterns of the parameters' names that are reported one by one; the total norm is of all.
        activations: patterns of the modules' names whose dead or saturated units are counted.
        tensors_every: steps between two looks at single tensors; the total norm is taken at every step. A look costs
            what five steps without one cost, and says of each: grad_norm, grad_mean_abs, zero_fraction, nonfinite,
            update_ratio; of those of two dimensions and more, from a sample, also variance, grad_p05, grad_p95.
        scaler: the GradScaler of mixed precision, if there is one.
        first_step: the number of the first step, for a training that is resumed.
        topic, control_topic: where the daemon reads, and writes its commands.
        connect, connect_commands: what to use in place of Kafka; for tests.
        options: further options of kafka.KafkaProducer: security_protocol, ssl_cafile, sasl_mechanism, …

    Raises:
        TypeError, ValueError: an argument is not usable.

    Example:
        >>> with TrainingMonitor("bert-42", model=model, optimizer=optimizer) as monitor:  # doctest: +SKIP
        ...     for batch in monitor.batches(loader):
        ...         monitor.step(loss=train_on(batch))
    """

    def __init__(
        self,
        run: str,
        *,
        model: Any = None,
        optimizer: Any = None,
        scheduler: Any = None,
        bootstrap_servers: str | Sequence[str] | None = None,
        allow: Collection[str] = (),
        handlers: Mapping[str, Handler] | None = None,
        automatic: bool = True,
        state: Mapping[str, Any] | None = None,
        checkpoints: str | PathLike[str] | None = None,
        checkpoint_every: int | None = None,
        keep_checkpoints: int = 3,
        parameters: Sequence[str] = ("*",),
        activations: Sequence[str] = (),
        tensors_every: int = 20,
        scaler: Any = None,
        first_step: int = 1,
        topic: str = "streamd.telemetry",
        control_topic: str = "streamd.control",
        connect: Callable[[], Sink] | None = None,
        connect_commands: Callable[[], Reader] | None = None,
        **options: Any,
    ) -> None:
        from streamd.client import kafka_sink

        check_stream(run)
        self._handlers = dict(handlers or {})
        _check_allow(allow, NAMES | set(self._handlers))
        _check_steps(tensors_every, checkpoint_every, checkpoints)
        servers = kafka_sink.addresses_or_default(bootstrap_servers)
        self.run = run
        self._allow = frozenset(allow)
        self._automatic = automatic
        self._checkpoint_every = checkpoint_every
        self._tensors_every = tensors_every
        self._number = first_step - 1
        self._sender = TelemetryProducer(servers, topic, connect=connect, **options)
        self._connect_commands = connect_commands or kafka_connector(servers, control_topic, options)
        self._address = ",".join(servers)
        self._equipment: Equipment | None = None
        if any(part is not None for part in (model, optimizer, scheduler, state)):
            from streamd.client.training.equipment import Equipment

            watched = {"parameters": parameters, "activations": activations, "scaler": scaler}
            self._equipment = Equipment(
                model, optimizer, scheduler, state or {}, checkpoints, keep_checkpoints, watched
            )
        self._ranks: Ranks = Alone()
        self._orders: Orders | None = None
        self._system = SystemWatch()
        self._started = self._closed = False
        self._stepped_at: float | None = None
        self._waited_seconds: float | None = None
        self._pending: deque[Point] = deque()
        self._faults: set[str] = set()

    # --- The life of a run ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to measure and to listen. `with` and the first `step` do it; after init_process_group."""
        if not self._started:
            self._started = True
            self._safely("starting", self._start)

    def _start(self) -> None:
        torch = sys.modules.get("torch")
        if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
            from streamd.client.training.together import find_ranks

            self._ranks = find_ranks() if self._allow or self._checkpoint_every else Alone(torch.distributed.get_rank())
        listener = gate = None
        if self._ranks.rank == 0:
            gate = Gate(self._is_ours, self._allow, self._acknowledge)
            listener = Listener(self._connect_commands, self._is_ours, self._address)
            listener.start()
            self._system.start()
        handlers: dict[str, Handler] = {}
        if self._equipment is not None:
            handlers |= self._equipment.begin(self._ranks)
        self._orders = Orders(listener, gate, self._ranks, handlers | self._handlers)

    def step(
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        step: int | None = None,
        epoch: float | None = None,
        tensors: Tensors | None = None,
        **metrics: Any,
    ) -> None:
        """Say what this step measured, and obey what has been commanded.

        Args:
            values: metrics whose names are no identifiers, such as {"val/f1": 0.81}; `other/loss` is what another
                run measured at this step, which this one should repeat.
            step: its number; None: one more than the last.
            epoch: likewise, when it is known.
            tensors: summaries of the job's own, by name and statistic: numbers. For those of classes: class_summaries.
            metrics: `loss=loss` and others: numbers, or tensors of one element, which are not waited for.
        """
        arrived = time.perf_counter()
        if self._closed:
            return
        self.start()
        self._number = self._number + 1 if step is None else int(step)
        if self._ranks.rank == 0:
            self._safely("measuring", lambda: self._measure(arrived, epoch, {**(values or {}), **metrics}, tensors))
        if self._equipment is not None:
            self._equipment.step = self._number
        if self._checkpoint_every and self._number % self._checkpoint_every == 0:
            self._safely("saving a checkpoint", self._checkpoint)
        if self._automatic:
            self.obey(*self.commands())
        if self._equipment is not None:
            self._equipment.look_closer_next(self._number + 1, self._tensors_every)
        self._stepped_at = time.perf_counter()

    def log(self, values: Mapping[str, Any], *, epoch: float | None = None, tensors: Tensors | None = None) -> None:
        """Say what belongs to no step of its own, such as an evaluation: it is sent under the last step's number."""
        self.start()
        if self._ranks.rank == 0 and not self._closed:
            self._safely("sending", lambda: self._queue({}, values, tensors, epoch, (None, None)))

    def batches(self, loader: Iterable[T]) -> Iterator[T]:
        """The loader's batches: the time that they are waited for is measured, `skip_batches` and `stop` are obeyed."""
        self.start()
        if self._orders is not None:
            self._orders.can_skip = True
        iterator = iter(loader)
        while not self.should_stop:
            asked = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited_seconds = (self._waited_seconds or 0.0) + time.perf_counter() - asked
            if self._orders is not None and self._orders.skips > 0:
                self._orders.skips -= 1
                continue
            yield batch

    @property
    def should_stop(self) -> bool:
        """Whether `stop` was commanded; `batches` ends by itself."""
        return self._orders is not None and self._orders.stopping

    @property
    def step_number(self) -> int:
        """Of the last step; a rollback sets it back."""
        return self._number

    @property
    def stats(self) -> Stats:
        """What became of the messages so far."""
        return self._sender.stats

    def close(self, timeout_seconds: float = _CLOSE_SECONDS, *, outcome: Ending = "done") -> None:
        """Send what is left and that the run is over, for at most that long, and let go of model and broker."""
        if self._closed:
            return
        self._closed = True
        self._safely("sending the last steps", lambda: self._send(wait=True))
        if self._equipment is not None:
            self._safely("letting go of the model", self._equipment.close)
        if self._orders is not None:
            self._safely("closing the commands", self._orders.close)
        if self._started and self._ranks.rank == 0:  # the last word: after the steps and the answers
            step = max(self._number, 0)
            self._safely("saying the end", lambda: self._sender.end(self.run, step=step, outcome=outcome))
        self._system.close()
        self._sender.close(timeout_seconds)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._orders is not None:
            self._orders.abandon()  # the other ranks may never come to where this one is
        self.close(outcome="done" if error is None else "failed")

    # --- Commands ---------------------------------------------------------------------------------

    def commands(self) -> list[Command]:
        """What is to be obeyed now: allowed, in time, not in shadow, once each, the same on every rank.

        For jobs with `automatic=False`, which call it once a step on every rank and give each command to `obey`.
        """
        self.start()
        if self._orders is None:
            return []
        return self._safely("taking commands", self._orders.due, switch_off=True) or []

    def obey(self, *commands: Command) -> None:
        """Run the commands' handlers, answer the daemon, and wait if the training is paused then."""
        if self._orders is None or not commands:
            return
        for command in commands:
            self._safely(f"obeying {command.command}", partial(self._orders.obey, command), switch_off=True)
            if self._orders is None:
                return
        self._safely("waiting", self._orders.wait_while_paused, switch_off=True)
        if self._equipment is not None:
            self._number = self._equipment.step

    def _is_ours(self, command: Command) -> bool:
        return command.target_kind == "run" and command.target == self.run

    def _acknowledge(self, command: Command, outcome: Outcome, detail: str) -> None:
        step = self._number if self._equipment is None else self._equipment.step  # a rollback may have moved it
        self._sender.acknowledge(self.run, command.id, outcome, f"step {step}: {detail}", kind="run")

    def _checkpoint(self) -> None:
        assert self._equipment is not None
        self._equipment.checkpoint()

    # --- Telemetry --------------------------------------------------------------------------------

    def _measure(self, arrived: float, epoch: float | None, given: Mapping[str, Any], tensors: Tensors | None) -> None:
        metrics: dict[str, float | None] = dict(self._system.latest)
        if self._stepped_at is not None:
            metrics["step_seconds"] = arrived - self._stepped_at
        if self._waited_seconds is not None:
            metrics["data_wait_seconds"], self._waited_seconds = self._waited_seconds, 0.0
        hooks: Hooks = (None, None)
        if self._equipment is not None:
            given, hooks = {**self._equipment.learning_rates(), **given}, self._equipment.hooks
        self._queue(metrics, given, tensors, epoch, hooks)

    def _queue(
        self,
        metrics: dict[str, float | None],
        given: Mapping[str, Any],
        tensors: Tensors | None,
        epoch: float | None,
        hooks: Hooks,
    ) -> None:
        on_device: dict[str, Any] = {}
        for name, value in given.items():
            try:
                if hasattr(value, "detach"):
                    on_device[name] = value.detach().reshape(())
                elif value is not None:
                    metrics[name] = float(value)
            except (TypeError, ValueError, RuntimeError) as error:
                self._fault(f"the metric {name}", error)
        summaries: Summaries = self._safely("reading the tensors", lambda: numbers(tensors or {})) or {}
        ts_ms = time.time_ns() // 1_000_000
        if not self._pending and not on_device and hooks == (None, None):
            self._sender.send(self.run, self._number, metrics, tensors=summaries, epoch=epoch, ts_ms=ts_ms)
            return
        from streamd.client.training.points import point

        if len(self._pending) < _PENDING_MAX:
            self._pending.append(point(self._number, epoch, ts_ms, metrics, summaries, on_device, *hooks))
        self._send(wait=False)

    def _send(self, *, wait: bool) -> None:
        """Send the points whose numbers have arrived from the device, in order."""
        while self._pending and (wait or self._pending[0].reading.ready):
            point = self._pending.popleft()
            metrics, tensors = point.complete()
            self._sender.send(self.run, point.step, metrics, tensors=tensors, epoch=point.epoch, ts_ms=point.ts_ms)

    # --- A monitor must not end the training that it watches ---------------------------------------

    def _safely(self, what: str, act: Callable[[], T], *, switch_off: bool = False) -> T | None:
        try:
            return act()
        except Exception as error:
            self._fault(what, error)
            if switch_off and self._orders is not None:
                log.error("%s: commands are not obeyed any more", self.run)
                self._orders = None
            return None

    def _fault(self, what: str, error: Exception) -> None:
        """Say it once."""
        if what not in self._faults:
            self._faults.add(what)
            log.error("%s: %s failed, the training goes on", self.run, what, exc_info=error)


def _check_allow(allow: Collection[str], known: Collection[str]) -> None:
    if isinstance(allow, str) or not set(allow) <= set(known):
        raise ValueError(f"allow must be some of {', '.join(sorted(known))}; is {allow!r}")


def _check_steps(tensors_every: int, checkpoint_every: int | None, checkpoints: str | PathLike[str] | None) -> None:
    for name, number in (("tensors_every", tensors_every), ("checkpoint_every", checkpoint_every or 1)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, is {number}")
    if checkpoint_every is not None and checkpoints is None:
        raise ValueError("checkpoint_every needs a folder: checkpoints='folder'")
