"""What a process serves: clients, and what they may ask for."""
