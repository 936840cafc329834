"""The long one: for hours, with kills all the time, or without any, to see what a member holds on to."""

from __future__ import annotations

import signal
import time

from chaos.figures import Held, growth, held
from chaos.world import World


def soak(world: World, seconds: float, kill_every_seconds: float = 18.0) -> None:
    """The first member is never killed, and looked at; others are killed, and the network hiccups, all the time."""
    begun = time.monotonic()
    watched, victims = world.members[0], world.members[1:]
    samples: dict[int, list[Held]] = {watched.pid: []}
    next_kill = begun + kill_every_seconds
    while (now := time.monotonic()) < begun + seconds:
        _look(world, samples, now - begun)
        if now >= next_kill:
            next_kill = now + kill_every_seconds * float(world.rng.uniform(0.7, 1.3))
            if world.rng.random() < 0.15:
                world.proxy.reset()
                world.played("reset")
            else:
                victim = victims[int(world.rng.integers(len(victims)))]
                victim.stop(signal.SIGKILL)
                victim.start()
                world.played("SIGKILL")
        time.sleep(1.0)
    _sum_up(world, samples)


def calm(world: World, seconds: float) -> None:
    """Nothing happens to any of them. What grows now grows for ever."""
    begun = time.monotonic()
    samples: dict[int, list[Held]] = {member.pid: [] for member in world.members}
    while (now := time.monotonic()) < begun + seconds:
        _look(world, samples, now - begun)
        time.sleep(1.0)
    world.played("calm")
    _sum_up(world, samples)


def _look(world: World, samples: dict[int, list[Held]], seconds: float) -> None:
    world.nurse()
    running = {member.pid for member in world.members}
    for pid, each in samples.items():
        if pid in running:
            each.append(held(pid, seconds))


def _sum_up(world: World, samples: dict[int, list[Held]]) -> None:
    """The figures of the one that grows fastest, after the first third: until then everything grows."""
    settled = [each[len(each) // 3 :] for each in samples.values()]
    worst = max(settled, key=growth)
    first, last = worst[0], worst[-1]
    world.outcome.figures |= {
        "RSS": f"{first.rss_bytes / 2**20:.0f} → {last.rss_bytes / 2**20:.0f} MiB",
        "RSS slope": f"{growth(worst) / 2**20:+.1f} MiB/h",
        "files": f"{first.files} → {last.files}",
        "threads": f"{first.threads} → {last.threads}",
    }
    for each in settled:
        if each[-1].files > each[0].files + 10 or each[-1].threads > each[0].threads + 5:
            world.problem(f"files or threads pile up: {each[0]} → {each[-1]}")
