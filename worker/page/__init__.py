"""Reads the numbers on a page."""
