"""What leaves the daemon: alerts, commands and dead letters as records."""
