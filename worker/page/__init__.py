"""Finds what may be digits on a page and brings them to the input of the model. Pure functions on arrays."""
