"""Metrics, traces and the measured speed of a worker."""
