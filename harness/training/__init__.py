"""Training: fast adversarial training, its resumable loop, evaluation, publishing of a trained network."""
