"""Benchmarks: each measures one promise in one run and says whether it holds, and each has a control that must fail."""
