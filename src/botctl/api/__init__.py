"""The REST API of a running daemon, served by `control`: application, routes and the models its clients share."""
