"""Saves one model by torch.distributed.checkpoint from several processes: ``dcp_ranks.py RANK WORLD RENDEZVOUS FOLDER``."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor


def state() -> dict[str, torch.Tensor]:
    """The whole model, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    return {
        "rows": torch.randn(7, 5, generator=generator),
        "columns": torch.randn(6, 8, generator=generator),
        "cube": torch.randn(3, 4, 6, generator=generator),
        "copied": torch.randn(11, generator=generator),
        "half": torch.randn(10, 3, generator=generator).half(),
    }


if __name__ == "__main__":
    rank, world, rendezvous, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", (world,))
    placements = {"rows": Shard(0), "columns": Shard(1), "cube": Shard(1), "copied": Replicate(), "half": Shard(0)}
    sharded = {n: distribute_tensor(v, mesh, [placements[n]]) for n, v in state().items()}
    dcp.save({"model": sharded, "optimizer": {"step": torch.tensor(3.0)}}, checkpoint_id=folder)
    dist.destroy_process_group()
