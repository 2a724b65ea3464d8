"""The Python clients: over HTTP and straight to Redis, blocking and for asyncio.

Each transport is written once, as coroutines. A blocking client runs them on the calling thread, where nothing in them
suspends; an asyncio client awaits them.
"""
