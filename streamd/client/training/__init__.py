"""The parts of TrainingMonitor that need torch; imported when a monitor is given a model, never before."""
