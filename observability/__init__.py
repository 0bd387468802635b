"""The monitoring bundle: objectives, rules, alerts and dashboards, and what renders them."""
