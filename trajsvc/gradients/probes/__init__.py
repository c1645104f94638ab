"""Probes: what gradients are taken of. A network is built from a checkpoint, examples have an order, every example has a loss."""
