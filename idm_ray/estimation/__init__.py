"""What a run takes before it starts: measured parts, and what follows from them."""
