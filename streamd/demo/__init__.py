"""The demo: a broker, the daemon, and real data of a real model in which something really happened."""
