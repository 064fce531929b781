"""How long the PyPI library cloud-cost-allocation takes for splits in memory.

Run by the Python of an environment of its own that holds the library; prints seconds by the clock and of processor. The cost of each service
goes to all accounts by keys, which is the library's way of saying what our allocator says.
"""

import sys
import time
from configparser import ConfigParser

from cloud_cost_allocation.cloud_cost_allocator import CloudCostAllocator
from cloud_cost_allocation.config import Config
from cloud_cost_allocation.cost_items import CostItemFactory

SETTINGS = """
[General]
DateFormat = %Y-%m-%d
Amounts = Cost
AllocationKeys = Key
AmountAllocationKeys = Cost:Key
DefaultService = none
NumberOfProviderMeters = 0
NumberOfProductDimensions = 0
NumberOfProductMeters = 0
"""


def seconds(items: int, accounts: int) -> tuple[float, float]:
    parser = ConfigParser(interpolation=None)
    parser.read_string(SETTINGS)
    factory = CostItemFactory(Config(parser))
    costs, keys = [], []
    for i in range(items):
        cost = factory.create_cloud_cost_item()
        cost.date_str, cost.service, cost.currency, cost.amounts = "2024-01-01", f"item{i}", "USD", [float(i + 1)]
        costs.append(cost)
        for account in range(accounts):
            key = factory.create_consumer_cost_item()
            key.date_str, key.service, key.currency = "2024-01-01", f"account{account}", "USD"
            key.provider_service, key.provider_cost_allocation_type = f"item{i}", "Key"
            key.allocation_keys = [float(account + 1)]
            keys.append(key)
    allocator = CloudCostAllocator(factory)
    allocator.date_str, allocator.currency = "2024-01-01", "USD"
    started, cpu = time.perf_counter(), time.process_time()
    if not allocator.allocate(keys, costs, ["Cost"]):
        raise SystemExit("cloud-cost-allocation could not allocate")
    took = time.perf_counter() - started, time.process_time() - cpu
    booked, due = sum(key.amounts[0] for key in keys), items * (items + 1) / 2
    if abs(booked - due) > due * 1e-9:
        raise SystemExit(f"cloud-cost-allocation booked {booked} of {due}")
    return took


if __name__ == "__main__":
    print(*seconds(int(sys.argv[1]), int(sys.argv[2])))
