"""Detectors, one file each; `registry` lists their Configs."""
