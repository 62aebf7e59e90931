"""Searches over settings: which runs they take, what became of them, and what they show."""
