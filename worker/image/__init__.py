"""Turns grey levels into the 28x28 input of the model. Pure functions on arrays."""
