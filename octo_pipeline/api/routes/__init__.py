"""The routes, a module for each resource."""

from octo_pipeline.api.routes import (
    accounts,
    allocations,
    allocators,
    cost_groups,
    data,
    metrics,
    months,
    operations,
    outputs,
    users,
)

ROUTERS = (
    accounts.router,
    allocations.router,
    allocators.router,
    cost_groups.router,
    data.router,
    metrics.router,
    months.router,
    operations.router,
    outputs.router,
    users.router,
)
