"""How soon experiments decide and how often falsely: simulated, with the statistics that the operator decides with."""
