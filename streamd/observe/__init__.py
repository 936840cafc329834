"""What the daemon shows of itself: metrics, the live view, logs, health and the admin HTTP."""
