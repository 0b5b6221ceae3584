"""Measurements. Each compares in one run, since machines differ and are shared: trust the ratios."""
