"""Forms in which a condensed set is handed to others, and reading them back."""
