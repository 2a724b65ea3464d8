"""What the Redis server can be trusted with: configuration, rights, memory."""
