"""The side that hands pictures in: the web application, and the Python clients `Client` (HTTP) and `Queue` (Redis)."""

from producer.client import Client
from producer.queue import Queue
from shared.keys import Priority
from shared.prediction import Prediction, State

__all__ = ["Client", "Prediction", "Priority", "Queue", "State"]
