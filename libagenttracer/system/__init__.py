"""This machine: processes, the libraries they map, and starting a command to be traced."""
