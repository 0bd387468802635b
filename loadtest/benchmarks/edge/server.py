"""`python -m loadtest.benchmarks.edge.server plain|limited PORT`: a constant answer over one of the two protocols."""

from __future__ import annotations

import sys

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from loadtest.benchmarks.api.plain import hello
from service.api.refusals import answer_refusal
from service.edge.connections import Connections
from service.edge.limits import EdgeLimits
from service.edge.protocol import limited_protocol


def main() -> None:
    """Serve until SIGTERM."""
    kind, port = sys.argv[1], int(sys.argv[2])
    limited = limited_protocol(Connections(EdgeLimits(), answer_refusal, lambda _: None))
    protocol = {"plain": HttpToolsProtocol, "limited": limited}[kind]
    uvicorn.run(
        hello, port=port, http=protocol, ws="none", log_config=None, access_log=False, lifespan="off", loop="uvloop"
    )


if __name__ == "__main__":
    main()
