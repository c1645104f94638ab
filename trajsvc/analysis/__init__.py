"""Analyse a source into a committed run: options, pipeline, forecast, resumption."""
