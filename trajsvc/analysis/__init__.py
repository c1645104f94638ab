"""From a source to a committed run: options, pipeline, forecast, resumption."""
