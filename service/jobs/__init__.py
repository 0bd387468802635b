"""Run accepted extractions and send webhooks as durable jobs in Procrastinate's tables, in this or another process."""
