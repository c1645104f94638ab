"""Pydantic models of what is said over HTTP and kept in files."""
