"""A pod runs on the node as on a kubelet's."""
