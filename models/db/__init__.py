"""The database: transactions, the bookkeeping tables, column types, bulk statements, migrations."""
