"""The external metrics of a cluster that has no other server for them: what routers say, for autoscalers."""
