"""The live view: what is sent to people who look, and the page that they look at."""
