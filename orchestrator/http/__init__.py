"""The HTTP service: stateless, any number of replicas, no worker imported."""
