"""The text of a probe of a network of two layers, which tests write as a module of a user's own."""

from __future__ import annotations

PROBE = """
import os, time
import numpy as np
import torch


class Small:
    def __init__(self, context):
        with np.load(context.data) as file:
            self.examples = list(zip(file["x"], file["y"]))
        self.digest = "small"

    def network(self, config):
        return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))

    def losses(self, network, examples):
        time.sleep(float(os.environ.get("SLOWLY", "0")))
        kind = next(network.parameters()).dtype
        x = torch.stack([torch.as_tensor(x) for x, _ in examples]).to(kind)
        y = torch.stack([torch.as_tensor(y) for _, y in examples])
        return torch.nn.functional.cross_entropy(network(x), y, reduction="none")
"""
