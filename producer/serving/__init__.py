"""The web process: the HTTP server, request bodies, streams, and waiting for results."""
