"""Measurements, side by side with peers. `make bench` runs them; results and their reading are in bench/README.md."""
