"""The model as it serves: prediction, decision, self-test, explanation."""
