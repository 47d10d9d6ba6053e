"""Health and metrics for operators. It only reads; it changes nothing of what it shows."""
