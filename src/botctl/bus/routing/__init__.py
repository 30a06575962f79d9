"""From out streams to logs and mailboxes, with fair shares of the router's time and of the server's memory."""
