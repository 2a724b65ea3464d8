"""What both sides share: the protocol on Redis, the settings, the errors. It imports neither side."""

VERSION = "0.2.0"
