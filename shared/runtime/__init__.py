"""What every process needs: logs, metrics, traces, health."""
