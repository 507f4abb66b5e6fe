"""Loggers, lines that block nobody, the access log."""
