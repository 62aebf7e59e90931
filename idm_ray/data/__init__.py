"""Where images come from: sources, the decoded cache, and the samplers. No torch, no Ray."""
