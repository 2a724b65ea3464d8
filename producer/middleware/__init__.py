"""What every request passes: access, errors, metrics, tracing, response headers."""
