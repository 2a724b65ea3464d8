"""Calls back when a prediction has ended."""
