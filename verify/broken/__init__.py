"""Processes with planted bugs, which `verify` must find. Not part of the product."""
