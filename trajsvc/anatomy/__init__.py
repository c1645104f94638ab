"""Knows what a tensor is: its layer, its component, its Q/K/V parts, or that it is a buffer."""
