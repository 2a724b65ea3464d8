"""The artefact that serving loads: temperature, thresholds, export, and the promotion to service."""
