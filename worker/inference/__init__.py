"""Runs the model: prediction, decision, self-test, explanation."""
