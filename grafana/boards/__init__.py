"""The dashboards, one module each, made of `frame`, `panels` and `queries`."""
