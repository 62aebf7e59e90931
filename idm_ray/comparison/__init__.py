"""Methods side by side, under one protocol: the tables of the paper, each by one command."""
