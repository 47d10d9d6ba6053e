"""Plain HTTP on the subscribers' port: health probes, snapshots, Server-Sent Events."""
