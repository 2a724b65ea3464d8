"""The runtime of every process: logs, metrics, traces, health, memory."""
