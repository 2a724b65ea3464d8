"""Learns from users' corrections: reads them, trains the model in service further, and promotes what reads better."""
