"""Reading a table: files, columns, classes, rows."""
