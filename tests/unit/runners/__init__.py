"""The parts of the worker, each alone: no server, and a stand-in for each collaborator."""
