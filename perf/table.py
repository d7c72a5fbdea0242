#!/usr/bin/env python3
"""Writes the table of figures in docs/performance.md from the stored results in perf/results, and
the counts of instructions in perf/budget.md from perf/instructions.json.

  perf/run table           writes them
  perf/run table --check   fails if the documents are different

Each row names its result, and each result has its command, machine and commit. Ratios are medians
over pairs of windows with 90 % intervals. Below 1 Corecast needs less, except for deliveries per
second.
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
BUDGET = ROOT / "perf" / "budget.md"
# A row of the budget that is measured by an item of perf/instructions.json: all before its present
# value, the value, and the rest, with the item's name.
BUDGET_ROW = re.compile(r"^((?:\|[^|]*){2}\| )([^|]*)( \|[^|]*, `(\w+)` \|)$", re.MULTILINE)
BEGIN, END = "<!-- perf/run table begins -->\n", "<!-- perf/run table ends -->\n"
MIB = 2**20


def result(name):
    path = ROOT / "perf" / "results" / f"{name}.json"
    return json.loads(path.read_text())["result"]


def ratio(name, to, measure):
    found = [one for one in result(name)["ratios"]
             if one["to"] == to and one["measure"] == measure]
    median, low, high = (found[0][key] for key in ("median", "low", "high"))
    return f"{median:.2f} ({low:.2f}–{high:.2f})"


def median_of(name, server, key):
    (figures,) = (one["figures"] for one in result(name)["servers"] if one["name"] == server)
    values = sorted(one[key] for one in figures)
    return values[len(values) // 2]


def lost(name):
    found = result(name)
    servers = found.get("servers", [found])
    return sum(one["lost"] + one["duplicates"] + one["reordered"] for one in servers)


def rows():
    for name, count in (("idle-10000", "10,000"), ("idle-100000", "100,000"),
                        ("idle-100000-epoll", "100,000, on epoll")):
        found = result(name)
        yield (f"one idle subscribed connection, of {count}",
               f"{found['bytes_per_connection']:.0f} B of RSS, "
               f"{found['kernel_bytes_per_connection'] / 1000:.2f} KB in the kernel", name)
    for name, channels in (("idle-16", 16), ("idle-128", 128)):
        found = result(name)
        yield (f"one idle connection, subscribed to {channels} channels that all share",
               f"{found['bytes_per_connection']:,.0f} B of RSS", name)
    hold = result("hold-100000")
    rung = hold["rungs"][0]
    yield ("100,000 connections on one channel, one publication a second, 10 minutes",
           f"connected in {rung['seconds_to_connect']:.1f} s; {rung['rss_bytes'] / MIB:.0f} MiB; "
           f"{rung['window']['server']['cpu_share'] * 100:.0f} % of one core; of "
           f"{rung['window']['deliveries'] / 1e6:.0f} million deliveries {lost('hold-100000')} "
           "lost, repeated or out of order", "hold-100000")
    ladder = result("ladder-1000000")
    rung = ladder["rungs"][-1]
    yield ("1,000,000 connections in one process on a machine of 24 GiB, 10 minutes",
           f"the last 900,000 connected in {rung['seconds_to_connect']:.0f} s; "
           f"{rung['rss_bytes'] / MIB:.0f} MiB; "
           f"{rung['window']['server']['cpu_share'] * 100:.0f} % of one core; of "
           f"{rung['window']['deliveries'] / 1e6:.0f} million deliveries {lost('ladder-1000000')} "
           "lost, repeated or out of order", "ladder-1000000")
    yield ("CPU of a delivery, 128 B to 10,000",
           f"{median_of('speed-10000', 'corecast', 'cpu_us_per_delivery'):.2f} µs: "
           f"{ratio('speed-10000', 'limit', 'cpu')} of the ceiling's, "
           f"{ratio('speed-10000', 'bun', 'cpu')} of Bun's", "speed-10000")
    yield ("deliveries a second to 100,000, all shards on one core",
           f"{median_of('speed-100000', 'corecast', 'per_second') / 1e3:.0f},000: "
           f"{ratio('speed-100000', 'limit', 'rate')} of the ceiling's", "speed-100000")
    together = median_of("together-16", "corecast", "per_second")
    times = together / median_of("speed-10000", "corecast", "per_second")
    yield ("16 publications in progress at once",
           f"{together / 1e6:.1f} million deliveries a second: "
           f"{ratio('together-16', 'bun', 'rate')} of Bun's, and {times:.0f} times those with one",
           "together-16")
    for name, load in (("latency-50000", "50,000"), ("latency-100000", "100,000")):
        yield (f"latency at {load} deliveries a second",
               f"p50 {median_of(name, 'corecast', 'p50_us') / 1e3:.1f} ms, "
               f"p99 {median_of(name, 'corecast', 'p99_us') / 1e3:.1f} ms, "
               f"p99.9 {median_of(name, 'corecast', 'p999_us') / 1e3:.1f} ms: of Bun's p50 "
               f"{ratio(name, 'bun', 'p50')}, p99 {ratio(name, 'bun', 'p99')}; of the ceiling's "
               f"p50 {ratio(name, 'limit', 'p50')}, p99 "
               f"{ratio(name, 'limit', 'p99')}", name)
    yield ("10,000 connections on 1,000 channels, 5,000 publications a second",
           f"CPU {ratio('channels-1000', 'bun', 'cpu')} of Bun's, "
           f"p99 {ratio('channels-1000', 'bun', 'p99')}", "channels-1000")
    yield ("CPU of a handshake",
           f"{median_of('handshakes', 'corecast', 'cpu_us_per_handshake'):.1f} µs: "
           f"{ratio('handshakes', 'bun', 'cpu-handshake')} of Bun's", "handshakes")
    storm = result("storm-18000")
    yield ("18,000 lose their connection at once and recover 10 messages each",
           f"all complete after {storm['seconds_to_recover']:.1f} s; p99 of the others in that "
           f"time {storm['bystanders']['during']['p99_us'] / 1e3:.0f} ms", "storm-18000")
    for name, policy in (("slow-disconnect", "disconnect"), ("slow-skip", "skip")):
        found = result(name)["p99_ratio"]
        yield (f"1 % of 10,000 read 2 KB/s, slow_policy = \"{policy}\"",
               f"p99 of the others: {found['median']:.2f} "
               f"({found['low']:.2f}–{found['high']:.2f}) of the p99 without them", name)
    yield from bus_rows()
    yield ("CPU of a delivery with 2 and 8 shards on one core",
           f"1 shard needs {ratio('shards', '2 shards', 'cpu')} of the CPU of 2 shards, and "
           f"{ratio('shards', '8 shards', 'cpu')} of the CPU of 8", "shards")
    yield ("CPU of a delivery on epoll",
           f"{ratio('epoll', 'limit-send', 'cpu')} of the ceiling's with `send`", "epoll")


def bus_costs(rate, found):
    return (f"{rate:,.0f} publications a second; each costs Redis {found['redis_cpu_us']:.1f} µs "
            f"and the bridge of each node {found['bridge_cpu_us_per_node']:.1f} µs of CPU")


def bus_rows():
    what = "two nodes and Redis, 8 publishers, each publication read on the other node"
    found = result("bus-throughput")
    sent = sum(one["publications_per_second"] for one in found["generators"])
    yield what, bus_costs(sent, found), "bus-throughput"
    found = result("bus-throughput-full")
    appended = found["publications"] / found["wall_seconds"]
    yield f"{what}, at full load", bus_costs(appended, found), "bus-throughput-full"
    name = "bus-latency"
    found = result(name)
    trip, alone, across = (found["redis_round_trip"], found["one_node"]["delivery"],
                           found["two_nodes"]["delivery"])
    yield ("from one node to another, 1,000 publications a second",
           f"p50 {across['p50_us'] / 1e3:.2f} ms, p99 {across['p99_us'] / 1e3:.2f} ms; on one node "
           f"without Redis {alone['p50_us'] / 1e3:.2f} and {alone['p99_us'] / 1e3:.2f} ms; a round "
           f"trip to Redis {trip['p50_us'] / 1e3:.2f} and {trip['p99_us'] / 1e3:.2f} ms", name)
    name = "bus-nodes"
    costs = ", ".join(f"{row['redis_cpu_us']:.0f} µs" for row in result(name)["rows"])
    yield ("CPU of Redis for a publication with 1, 3 and 8 nodes, 5,000 a second", costs, name)
    name = "bus-storm"
    found = result(name)
    yield (f"{found['connections']:,} come back to a node of a bus and recover",
           f"all complete after {found['storm']['seconds_to_recover']:.1f} s; Redis got "
           f"{found['redis_commands']:,} commands in the whole run", name)


def table():
    lines = ["| measurement | result | kept in `perf/results` |", "|---|---|---|"]
    for what, found, name in rows():
        lines.append(f"| {what} | {found} | [{name}](../perf/results/{name}.json) |")
    return "\n".join(lines) + "\n"


def page(text):
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return before + BEGIN + table() + END + after


def budget(text):
    items = json.loads((ROOT / "perf" / "instructions.json").read_text())["items"]

    def current(row):
        before, _, after, name = row.groups()
        count = items[name]["instructions"]
        one = items.get(name.partition("_of_")[0]) if "_of_" in name else None
        value = f"{(count / one['instructions'] - 1) * 100:.1f} %" if one else f"{count:,.0f}"
        return before + value + after

    return BUDGET_ROW.sub(current, text)


def main():
    for path, made_of in ((PAGE, page), (BUDGET, budget)):
        text = path.read_text()
        made = made_of(text)
        if "--check" not in sys.argv[1:]:
            path.write_text(made)
        elif made != text:
            raise SystemExit(f"{path.relative_to(ROOT)} is not current: perf/run table")


main()
