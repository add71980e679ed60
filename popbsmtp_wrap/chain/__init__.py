"""Programs that exec another program, once per connection."""
