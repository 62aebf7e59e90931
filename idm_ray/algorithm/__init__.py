"""The method in pure torch: no Ray, no files, no clock, no global random state."""
