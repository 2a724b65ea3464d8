"""What the training draws: strokes, letters, shapes, scenes and non-digits, and the camera that photographs them."""
