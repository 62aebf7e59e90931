"""Methods: how the images of a set come about, one file each; see `catalog`."""
