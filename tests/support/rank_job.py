"""One rank of a training on two gloo processes: `rank_job.py RANK WORLD STORE FOLDER`. Prints what it saw as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from training import Commander, Inbox, command, watched

from streamd.client.commands import NAMES

COMMANDS: dict[int, list[tuple[str, dict[str, Any]]]] = {  # sent by rank 0 before its step of that number
    3: [("checkpoint", {})],
    5: [("reduce_lr", {"args": {"factor": 0.5}}), ("explode", {})],
    7: [("pause", {"seconds": 0.5})],
    9: [("rollback", {"args": {"step": 6}}), ("skip_batches", {"args": {"count": 2}})],
    14: [("stop", {})],
}


def leave_together() -> None:
    """End the process when all ranks are done, without taking gloo apart: its threads now and then abort at that."""
    dist.barrier()
    os._exit(0)


def main(rank: int, world: int, store: str, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(100 + rank)
    inbox, commander = Inbox(), Commander()
    seen, norms = [], []
    monitor = watched(
        inbox, commander, model=model, optimizer=optimizer, checkpoints=folder, allow=NAMES, tensors_every=1
    )
    with monitor:
        for turn, batch in enumerate(monitor.batches(range(40)), 1):
            optimizer.zero_grad()
            loss = model(torch.randn(16, 4)).square().mean()
            loss.backward()
            norms.append(float(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()))
            optimizer.step()
            if rank == 0:
                commander.send(*(command(name, **fields) for name, fields in COMMANDS.get(turn, ())))
            monitor.step(loss=loss)
            weights = torch.cat([p.detach().flatten() for p in model.parameters()]).numpy().tobytes()
            seen.append((batch, monitor.step_number, optimizer.param_groups[0]["lr"], hashlib.md5(weights).hexdigest()))
    points = [(point.step, point.metrics["grad_norm"], sorted(point.tensors)) for point in inbox.points]
    acks = [(ack.command_id, ack.outcome, ack.detail) for ack in inbox.acks]
    print(json.dumps({"seen": seen, "norms": norms, "points": points, "acks": acks}), flush=True)
    leave_together()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
