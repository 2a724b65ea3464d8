"""Finds ruled tables on a page, views them from straight above, and takes the digits out of their cells."""
