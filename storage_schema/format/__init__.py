"""Bytes on disk: arrays of a run, the matrix theta, stored types, the manifest."""
