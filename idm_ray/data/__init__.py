"""Where images come from: sources, the decoded cache, and the samplers.

No Ray; torch only where torchvision reads its data sets.
"""
