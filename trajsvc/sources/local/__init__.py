"""Checkpoints in folders of this machine."""
