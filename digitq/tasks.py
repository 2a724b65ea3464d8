"""The functions that queued jobs name, `digitq.tasks.classify` and `digitq.tasks.classify_chunk`, for RQ to import."""

from worker.tasks import classify, classify_chunk

__all__ = ["classify", "classify_chunk"]
