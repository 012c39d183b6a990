"""Ways to an answer, one module each with `series(config)`: what a driver loads and measures."""
