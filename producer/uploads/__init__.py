"""Validates uploads before they are stored: formats, sizes, multipart forms, archives."""
