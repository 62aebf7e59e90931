"""Dataset condensation by Improved Distribution Matching (CVPR 2023), on a laptop or on Ray."""

__version__ = "0.1.0"
