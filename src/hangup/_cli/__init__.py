"""The command ``hangup``."""
