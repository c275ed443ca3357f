"""`python -m pycontainer`."""
