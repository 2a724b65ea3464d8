"""The batching RQ worker: claims, runs and finishes jobs, and recovers what others have dropped."""
