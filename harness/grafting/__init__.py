"""Grafting: scores of neurons, their ranking, the choice of those that become linear, fine-tuning."""
