"""The network edge of the key service: HTTP in, HTTP out."""
