"""A run in other tools: its curves and maps in trackers of experiments, and callbacks of trainers that feed ``trajsvc watch``."""
