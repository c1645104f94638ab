"""The addresses below ``/v1``, and those that say whether the server lives."""
