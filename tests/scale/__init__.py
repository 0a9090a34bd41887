"""How fast sums and pages are over millions of calls: `make scale`.

A database of its own, beside the project's on the same server, is filled by the server itself: a hundred tenants, the
first with a tenth of all calls in the last 30 days, as Zipf has it. Triggers are off meanwhile, and each month gets its
indexes when it is full; days and cells are made by `backfill_usage`. Then every page and every question of sums is
asked about the largest tenant's last 30 days.

Left out is what no question here reads: decisions of calls that went ahead, and the list of call ids.
"""
