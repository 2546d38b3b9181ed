"""Experiments between a champion and a challenger: what is known, and what follows from it. Pure."""
