"""The words of the house: errors, months, vendors, columns, SQL text and wording. Imports nothing of ours."""
