"""Drawings for the training: strokes, letters, shapes, scenes and non-digits, and the camera that photographs them."""
