"""`digitq up`: everything on one machine."""
