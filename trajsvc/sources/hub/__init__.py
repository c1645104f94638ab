"""Checkpoints on the Hugging Face Hub: which revisions make a run, where their bytes lie, and reading them by ranges."""
