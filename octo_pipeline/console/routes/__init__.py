"""The pages, a module for each room of the console."""

from octo_pipeline.console.routes import (
    accounts,
    allocations,
    cost_groups,
    data,
    month,
    registration,
    rules,
    statements,
    users,
)

ROUTERS = (
    # The steps of a registration come before accounts, whose addresses can have any id.
    registration.router,
    accounts.router,
    allocations.router,
    cost_groups.router,
    data.router,
    month.router,
    rules.router,
    statements.router,
    users.router,
)
