"""Composed pages of numbers with their truth, and the crops of them that the reader of pages would see."""
