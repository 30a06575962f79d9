"""Work for later, kept in PostgreSQL."""
