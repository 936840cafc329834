"""What can go wrong, one function each: played on a world while the driver sends."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime

from chaos.figures import held
from chaos.world import World
from daemons import Daemon
from proxy import Action, Api, Cut, Flip, Side


def kill(world: World) -> None:
    """SIGKILL, whatever it is doing; a supervisor starts it again."""
    world.progress(int(world.rng.integers(1, 60)))
    world.pause(0, 0.3)
    member = world.one()
    member.stop(signal.SIGKILL)
    world.played("SIGKILL")
    member.start()


def terminate(world: World) -> None:
    """SIGTERM, and again."""
    world.progress(int(world.rng.integers(1, 60)))
    member = world.one()
    world.until(lambda: member.get("/readyz")[0] == 200, 60, f"{member.log.name} is ready")
    world.stop(member)
    world.played("SIGTERM")
    member.start()


def zombie(world: World) -> None:
    """Stopped for longer than its session, and continued in the middle of what it was doing."""
    world.progress(int(world.rng.integers(10, 60)))
    member = world.one()
    os.kill(member.pid, signal.SIGSTOP)
    try:
        time.sleep(world.config.kafka.session_timeout_ms / 1000 + float(world.rng.uniform(1, 4)))
    finally:
        os.kill(member.pid, signal.SIGCONT)
    world.played("SIGSTOP")
    world.progress(20)


def join_and_leave(world: World) -> None:
    """A member comes, and goes: two rebalances."""
    world.progress(20)
    guest = world.start_member()
    world.progress(20)
    world.members.remove(guest)
    world.stop(guest)
    world.played("rebalance")
    world.played("rebalance")


_GAP_SECONDS_MAX = 2.0


def join(world: World) -> None:
    """A member comes and stays. The partitions that need not move flow on."""
    world.progress(20)
    since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    world.offsets.gaps_seconds.clear()
    world.start_member()
    world.progress(100)
    moved = {name for member in world.members for name in _moved(member, since)}
    gaps = {f"{p.topic}/{p.number}": gap for p, gap in world.offsets.gaps_seconds.items()}
    stayed = {name: gap for name, gap in gaps.items() if name not in moved}
    world.played("rebalance")
    if stayed:
        worst = max(stayed.values())
        before = float(world.outcome.figures.get("gap of what stayed", "0 s").split()[0])
        world.outcome.figures["gap of what stayed"] = f"{max(before, worst):.1f} s"
        if worst > _GAP_SECONDS_MAX * world.patience:
            world.problem(f"partitions that stayed stood still: {stayed}")


def _moved(member: Daemon, since: str) -> set[str]:
    """The partitions that it was given or lost since then."""
    events = [*member.logged("partitions assigned"), *member.logged("partitions revoked")]
    return {name for event in events if event["timestamp"] >= since for name in event["partitions"]}


def join_during_restore(world: World) -> None:
    """A member is killed; while its heir puts the state together, another one joins. The network is slow."""
    world.progress(20)
    world.proxy.delay_seconds = 0.05
    member = world.one()
    member.stop(signal.SIGKILL)
    seen = len(member.logged("partitions assigned"))
    member.start()
    guest = world.start_member(wait=False)
    world.until(lambda: len(member.logged("partitions assigned")) > seen, 60, "the killed member is assigned again")
    world.proxy.delay_seconds = 0.0
    world.progress(20)
    world.members.remove(guest)
    world.stop(guest)
    world.played("join during restore")


def broker_crash(world: World, down_seconds: float) -> None:
    """The broker is killed and comes back on its data."""
    world.progress(20)
    _crash_broker(world, down_seconds)
    world.played("broker restart")
    world.progress(20, 90)


def crash_of_open_transaction(world: World, down_seconds: float) -> None:
    """The broker is killed while a transaction is open, and comes back when its time is over: it must end it then."""
    fault = Cut(Api.TXN_OFFSET_COMMIT, "request", "black_hole", skip=1)
    _with_much_to_tell(world, fault)
    if world.until(fault.done.is_set, 60, "a transaction to leave open"):
        world.played("broker restart over an open transaction")
    _crash_broker(world, world.config.kafka.transaction_timeout_ms / 1000 + down_seconds)
    world.progress(20, 90)


def _crash_broker(world: World, down_seconds: float) -> None:
    broker = world.site.broker
    assert broker is not None
    broker.kill()
    time.sleep(down_seconds)
    world.site.start_anew()


def reset(world: World) -> None:
    """Every connection of the members is reset."""
    world.progress(20)
    world.proxy.reset()
    world.played("reset")


def black_hole(world: World, seconds: float) -> None:
    """Nothing passes, and nobody is told."""
    world.progress(20)
    world.proxy.mode = "black_hole"
    time.sleep(seconds)
    world.proxy.mode = "pass"
    world.played("black hole")
    world.progress(20, 90)


def refuse(world: World, seconds: float) -> None:
    """No connection is taken, and those that were are reset."""
    world.progress(20)
    world.proxy.mode = "refuse"
    time.sleep(seconds)
    world.proxy.mode = "pass"
    world.played("refuse")
    world.progress(20, 90)


def slow(world: World, delay_seconds: float, seconds: float) -> None:
    """Everything takes that much longer, each way."""
    world.progress(20)
    world.proxy.delay_seconds = delay_seconds
    time.sleep(seconds)
    world.proxy.delay_seconds = 0.0
    world.played("delay")
    world.progress(20, 90)


def flip(world: World) -> None:
    """A bit of a record turns over on its way to a member: its checksum is wrong."""
    world.progress(40)
    fault = Flip(b'"features"')
    world.proxy.arm(fault)
    if world.until(fault.done.is_set, 30, "a fetched record to flip a bit of"):
        world.played("flipped CRC")
    world.progress(20, 90)


def flip_state(world: World) -> None:
    """The same on the way of the state to a member that restores it."""
    world.progress(100)
    fault = Flip(b"state-sha256")
    world.proxy.arm(fault)
    kill(world)
    if world.until(fault.done.is_set, 60, "a state record to flip a bit of"):
        world.played("flipped CRC in the state")
    world.progress(20, 90)


_MEMORY_BOUND = 200 * 1024 * 1024


def black_hole_output(world: World, seconds: float) -> None:
    """What the members write vanishes, what they read comes: nothing may pile up in them."""
    world.progress(100)
    before = [held(member.pid, 0).rss_bytes for member in world.members]
    world.proxy.arm(Cut(Api.PRODUCE, "request", "black_hole", times=1_000_000_000))
    most = list(before)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        now = [held(member.pid, 0).rss_bytes for member in world.members]
        most = [max(pair) for pair in zip(most, now, strict=True)]
        time.sleep(0.2)
    world.proxy.disarm()
    world.played("output black-holed")
    grown = max(b - a for a, b in zip(before, most, strict=True))
    world.outcome.figures["memory grew by"] = f"{grown / 2**20:.0f} MiB"
    if grown > _MEMORY_BOUND:
        world.problem(f"memory grew by {grown / 2**20:.0f} MiB while the output was black-holed")
    world.progress(20, 90)


# The eight places where a delivery can be cut; `any`: the request or its answer, by the seed.
CUT_POINTS: dict[str, tuple[Api, Side | None]] = {
    "before send": (Api.PRODUCE, "request"),
    "after send": (Api.PRODUCE, "response"),
    "AddPartitions": (Api.ADD_PARTITIONS_TO_TXN, None),
    "AddOffsets": (Api.ADD_OFFSETS_TO_TXN, None),
    "TxnOffsetCommit": (Api.TXN_OFFSET_COMMIT, None),
    "EndTxn request": (Api.END_TXN, "request"),
    "EndTxn response": (Api.END_TXN, "response"),
    "InitProducerId": (Api.INIT_PRODUCER_ID, None),
}


def cut(world: World, point: str, action: Action, seconds: float = 5.0) -> None:
    """One request of a transaction, or its answer, is lost or late."""
    world.progress(int(world.rng.integers(20, 80)))
    api, side = CUT_POINTS[point]
    sides: tuple[Side, Side] = ("request", "response")
    fault = Cut(
        api, side or sides[int(world.rng.integers(2))], action, skip=int(world.rng.integers(3)), seconds=seconds
    )
    if api is Api.INIT_PRODUCER_ID:
        fault.skip = 0
        world.proxy.arm(Cut(Api.END_TXN, "response", "reset"))  # only a new producer asks for it
    world.proxy.arm(fault)
    if world.until(fault.done.is_set, 60, f"a {fault.side} to cut at {point}"):
        world.played(f"cut by {action}")
    world.progress(20, 90)


def lost_answer(world: World, outage_seconds: float) -> None:
    """The broker commits, and then there is no network until the member has given up: it cannot know how it ended."""
    world.progress(40)
    fault = Cut(Api.END_TXN, "response", "reset", outage_seconds=outage_seconds)
    world.proxy.arm(fault)
    if world.until(fault.done.is_set, 60, "an answer to EndTxn to lose"):
        world.played("answer lost, then no network")
    time.sleep(outage_seconds)
    world.progress(20, 90)


def unheard_commit(world: World) -> None:
    """The broker commits and no answer comes back, until the member has given up; it stays in its group all the time.

    The same member makes the same delivery again, then: that it was made the mark alone can tell.
    """
    actions: tuple[Action, Action] = ("reset", "black_hole")
    action = actions[int(world.rng.integers(2))]
    fault = Cut(Api.END_TXN, "response", action, skip=1, times=1_000_000_000)
    _with_much_to_tell(world, fault)
    if not world.until(fault.done.is_set, 60, "an answer to EndTxn to lose"):
        return
    given_up = Cut(Api.INIT_PRODUCER_ID, "request", "delay", seconds=0)
    world.proxy.arm(given_up)
    if world.until(given_up.done.is_set, 60, "the member to give up"):
        world.played("commit unheard")
    world.proxy.disarm()
    world.progress(20, 90)


def _with_much_to_tell(world: World, fault: Cut) -> None:
    """Arm it for the transaction after one that is held up, so that it has the records of all that time."""
    world.progress(40)
    world.proxy.arm(fault)
    world.proxy.arm(Cut(Api.PRODUCE, "response", "delay", seconds=1.0))
