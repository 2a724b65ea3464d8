"""The operations of `Store`, by subject. Each class works alone; Store is all of them on one connection."""
