"""The side that classifies: the batching RQ worker, the preprocessing, the model and its training."""
