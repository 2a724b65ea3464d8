"""The side that hands pictures in: the web application, and the Python clients.

`Client` (over HTTP) and `Queue` (straight to Redis) have twins for asyncio, `AsyncClient` and `AsyncQueue`.
"""

from producer.client.aio import AsyncClient
from producer.client.aio_queue import AsyncQueue
from producer.client.http import Client
from producer.client.queue import Queue
from producer.client.retry import NEVER, Retry
from shared.keys import Priority
from shared.prediction import Prediction, State

__all__ = ["NEVER", "AsyncClient", "AsyncQueue", "Client", "Prediction", "Priority", "Queue", "Retry", "State"]
