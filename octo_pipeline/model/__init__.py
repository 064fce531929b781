"""What every other room uses: errors, months, vendors, columns, SQL text and wording. Imports nothing of ours."""
