"""The side that hands pictures in: the web application, and the Python clients.

`Client` (over HTTP) and `Queue` (straight to Redis) have twins for asyncio, `AsyncClient` and `AsyncQueue`.
"""

from producer.aio import AsyncClient
from producer.aio_queue import AsyncQueue
from producer.client import Client
from producer.queue import Queue
from producer.retry import NEVER, Retry
from shared.keys import Priority
from shared.prediction import Prediction, State

__all__ = ["NEVER", "AsyncClient", "AsyncQueue", "Client", "Prediction", "Priority", "Queue", "Retry", "State"]
