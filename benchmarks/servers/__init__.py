"""The servers that digitq is compared with: tutorial-style applications, with the model loaded once."""
