"""Runs jobs: pools, devices and the job runner."""
