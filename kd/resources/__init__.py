"""Resources of a run: FLOPs, throughput, requests to the scheduler, and usage."""
