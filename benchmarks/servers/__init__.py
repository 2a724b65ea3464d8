"""The servers that digitq is compared with: each a small application as in its tutorial, with the model loaded once."""
