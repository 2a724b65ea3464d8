"""Decodes uploaded images to grey levels, within limits."""
