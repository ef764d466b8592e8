"""What is asked: a model's architecture and a workload."""
