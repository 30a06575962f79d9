"""PostgreSQL: engines, logins, migrations, and one repository for each group of tables. Never decides policy."""
