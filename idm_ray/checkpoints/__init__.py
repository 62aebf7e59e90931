"""Commits of a run: what its future depends on, in files that are checked before they are used.

Neither torch nor Ray, no clock and no threads; nothing is read by unpickling.
"""
