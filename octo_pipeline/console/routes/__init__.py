"""The pages, a module for each room of the console."""

from octo_pipeline.console.routes import month, rules, users

ROUTERS = (month.router, rules.router, users.router)
