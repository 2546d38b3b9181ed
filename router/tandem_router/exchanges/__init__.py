"""A request on its way: the order of its steps, and its parts at the workers."""
