"""The commands `digitq submit`, `status`, `cancel` and `watch`."""
