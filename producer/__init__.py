"""The submitting side: the web application, the Python clients and the command line.

`Client` (over HTTP) and `Queue` (straight to Redis) have counterparts for asyncio, `AsyncClient` and `AsyncQueue`.
"""

from producer.client.async_clients import AsyncClient, AsyncQueue
from producer.client.images import Image, Picture
from producer.client.retry import NEVER, Retry
from producer.client.sync_clients import Client, Queue
from shared.keys import Priority
from shared.numbers import PageReading
from shared.prediction import Prediction, State

__all__ = [
    "NEVER", "AsyncClient", "AsyncQueue", "Client", "Image", "PageReading", "Picture", "Prediction", "Priority",
    "Queue", "Retry", "State",
]  # fmt: skip
