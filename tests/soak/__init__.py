"""Long runs against real processes: what must hold for hours, watched for minutes. `make soak` runs them."""
