"""From a study's tables to what a reader sees: tables, figures, and the report."""
