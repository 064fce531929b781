"""The pages, a module for each room of the console."""

from octo_pipeline.console.routes import month, users

ROUTERS = (month.router, users.router)
