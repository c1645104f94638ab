"""The run store: open, read, write and commit runs."""
