"""Runs the command line: `python -m digitq`."""

from digitq.cli import main

main()
