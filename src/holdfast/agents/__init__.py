"""What can run: Python functions, the assistant, and adapters for other libraries' agents."""
