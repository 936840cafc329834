"""The way from a file and the environment to a Config; streamd.config_loading puts the parts together."""
