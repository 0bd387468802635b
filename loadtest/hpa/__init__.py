"""The HorizontalPodAutoscaler of Kubernetes 1.34 as a pure model: from a spec and measurements to replica counts.

`spec` reads an autoscaling/v2 spec, `algorithm.sync` decides one sync of the controller, `world` plays a whole scenario
of simulated pods, and `decide` answers scenarios from the command line. Times are integer nanoseconds on any clock,
quantities are integers of thousandths, as in the controller.
"""
