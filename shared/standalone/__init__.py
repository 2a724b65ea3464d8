"""Runs `digitq up`: all parts of digitq on one machine."""
