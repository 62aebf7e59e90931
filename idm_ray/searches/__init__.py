"""Searches over options: which values are tried, and what came of them. No trial is run here."""
