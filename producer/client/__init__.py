"""Python clients: over HTTP and straight to Redis, blocking and for asyncio."""
