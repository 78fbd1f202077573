"""What leaves a run besides its files: SNS, Security Hub, metrics."""
