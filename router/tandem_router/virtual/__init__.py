"""Virtual models over HTTP: paths, connections and settings. What they answer is decided in `tandem_virtual`."""
