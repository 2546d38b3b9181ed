"""Who may use this router: keys, what they are for, and where the router learns of them."""
