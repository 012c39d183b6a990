"""What to generate: every form a caller may give it in, and the one document it becomes."""
