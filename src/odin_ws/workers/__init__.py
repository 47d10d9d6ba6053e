"""Several processes on one port, and the one above them: starting, watching, adding up."""
