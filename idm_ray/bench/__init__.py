"""Speed: an iteration of this implementation against one of Algorithm 1 as it was published."""
