"""The steps that every request passes: access check, errors, metrics, tracing, response headers."""
