"""One connection: how it receives and sends, who owns it, how it ends."""
