"""The gates between a request and a model, from the outside in.

::

    POST /extract-features, in the API process
      │
      │  both only for a client that waits for the result:
      ├─ LoadShedder         so many, fewer while the loop lags     PlanningBusy 503, Retry-After 2 to 8 s
      ├─ PlanningCapacity    asks those below without entering:     PlanningBusy, ModelUnavailable 503
      │                      a full queue, or all circuits open,
      │                      unless the plan cache has the plan
      ▼
    job in the database
      ▼
    Planner, in the worker process (or in the API with WORKER_IN_API)
      │
      ├─ CachedPlanner       plan cache: an equal request is        the error of the planning it waited for,
      │                      answered, or waits for the other's     DeadlineExceeded
      ├─ BudgetedPlanner     what a principal may spend in a day    BudgetExceeded 429, until midnight (UTC)
      ├─ AdmittedPlanner     so many plan at once, so many wait     PlanningBusy 503, the estimated wait
      ▼
    FallbackPlanner, for each model in turn
      │
      ├─ Breaker             the model's circuit, asked before each ModelUnavailable 503, until the next probe
      │                      attempt and shared through Redis       and up to 10 s more
      ▼
    provider

What stays apart has its reason in what it limits:

- `LoadShedder` limits clients that wait, by the event loop's lag; `Admission` limits plannings, by what the models can
  take. They run in different processes when workers plan, and with `Prefer: respond-async` only the second applies.
- `PlanningCapacity` refuses before anything is stored, with what this process knows of the others; it holds no place,
  so each gate decides again when a worker plans.
- The plan cache stands before budget and admission, since a cached plan costs nothing and needs no place.
- The budget stands before admission: what will be refused must not wait.
- A breaker stands at each model and each attempt, since another model may be healthy.

Nothing here imports the agent library: an API process whose workers plan elsewhere goes without it.
"""
