"""What is known of a connection's peer, and how the code that works for it hears of a disconnect."""
