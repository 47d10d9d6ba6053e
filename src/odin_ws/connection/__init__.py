"""One subscriber's connection, from accept to close."""
