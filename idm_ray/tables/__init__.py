"""Tables for people, of what commands find; the terminal shows them."""
