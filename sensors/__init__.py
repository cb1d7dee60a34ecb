"""When things run: sensors and schedules. They name assets by key and know nothing of their insides."""
