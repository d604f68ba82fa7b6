"""Documents in several languages, and their sentences."""
