"""The errors that clients raise, each with its `code`."""

from shared.errors import *  # noqa: F403
