"""Checks of the Redis server: configuration, rights, memory."""
