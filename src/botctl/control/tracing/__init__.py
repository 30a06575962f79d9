"""One message's way, dead letters, operators' sends: what the API asks of them."""
