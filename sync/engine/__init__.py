"""What a sync is: planning, clean walks, slices in parallel, shops and the fleet of them."""
