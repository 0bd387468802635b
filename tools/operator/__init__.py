"""Commands for operators of a deployment: keys, tokens, datasets, jobs, webhooks, and the doctor."""
