"""The command `octo`: one file a noun. Heavy modules are imported inside the commands that need them."""
