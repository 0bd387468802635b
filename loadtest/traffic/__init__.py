"""The load: shapes and arrivals over time, the data that is sent, and the clients that send it with Locust."""
