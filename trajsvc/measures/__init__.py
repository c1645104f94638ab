"""The measures: pure functions of a group's Gram."""
