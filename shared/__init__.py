"""The protocol on Redis, the settings, the errors, and the runtime of every process. Imports neither side."""

from pathlib import Path

VERSION = "0.2.0"
#: What precedes the names of our packages: "" in a checkout; "digitq." once installed (setup.py).
NAMESPACE = __name__.removesuffix("shared")
#: The checkout, or the folder in which the packages are installed.
ROOT = Path(__file__).parents[__name__.count(".") + 1]
