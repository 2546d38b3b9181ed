"""The paths of the API, by what they are about. Each module makes a router of what it is given."""
