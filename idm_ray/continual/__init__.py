"""Continual learning: classes come in steps, and of each step only a small memory is kept."""
