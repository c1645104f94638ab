"""Pydantic models of HTTP answers and of files."""
