"""What every request and every response passes: limits, headers, hosts, prefixes."""
