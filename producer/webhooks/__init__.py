"""Notifies callback URLs of ended predictions."""
