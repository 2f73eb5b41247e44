"""The HTML page, tables and the data set card."""
