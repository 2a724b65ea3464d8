"""Mutants: small mistakes made on purpose, each of which a test has to find."""
