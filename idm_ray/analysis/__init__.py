"""Where the features of condensed images lie among those of real ones (paper, Fig. 4)."""
