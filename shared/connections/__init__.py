"""Connections to Redis: URLs, pools, Sentinel, replica acknowledgements, failures."""
