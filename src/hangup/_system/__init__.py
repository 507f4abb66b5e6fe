"""What is asked of the operating system: readiness, facts of TCP, TLS contexts, threads, forks."""
