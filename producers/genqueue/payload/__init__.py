"""How requests and answers are stored: compressed, sealed, or with large inline data kept elsewhere."""
