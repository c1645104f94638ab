"""Routers of the addresses below ``/v1``, and of the health checks."""
