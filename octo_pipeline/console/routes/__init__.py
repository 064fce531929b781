"""The pages, a module for each room of the console."""

from octo_pipeline.console.routes import accounts, allocations, month, registration, rules, users

# The steps of a registration come before accounts, whose addresses can have any id.
ROUTERS = (
    registration.router,
    accounts.router,
    allocations.router,
    month.router,
    rules.router,
    users.router,
)
