"""Runs slabs and jobs: pools on this machine; clusters and the job runner come here too."""
