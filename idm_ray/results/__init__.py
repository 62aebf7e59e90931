"""What a run leaves behind: its folder, the condensed set, the gallery, the tables."""
