"""One module a command of `tandem`; each has its click command as `command`."""
