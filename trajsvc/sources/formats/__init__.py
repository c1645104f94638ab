"""Formats of checkpoint files: headers, and where the bytes of each tensor lie."""
