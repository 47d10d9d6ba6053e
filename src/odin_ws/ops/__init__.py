"""Health and metrics for operators. It only reads; all it can do is to revoke access."""
